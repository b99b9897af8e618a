"""Every value that crosses a process boundary, declared once.

`content` what a message holds beside text, and how an answer is wished for;
`frames`  the frames of a specialist's socket;
`records` what is stored or listed: registry entries, sessions, messages, errors;
`events`  what the backend publishes to its clients, in one numbered stream;
`params`  what every action takes, and `results` what it returns.

Names are imported from the module that declares them, so that a worker loads no more than it reads. This room imports
nothing of ours but `backend.suggest`, and holds no behaviour beyond small derived values.
"""

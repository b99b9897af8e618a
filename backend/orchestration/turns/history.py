"""A conversation as one specialist had it: each question with its own answer, in the order they were asked. Pure.

Messages lie in a store in the order in which they were stored. Two questions may have been asked before the first was
answered, a team may have answered one question, an answer may have been asked for again: request ids say what belongs
together.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from backend.schema.records import StoredMessage

NO_ANSWER = "(no answer was given)"
"""Stands behind a question that failed, or was cancelled before any text came: roles go on in turn."""


def conversation_of(
    ai_id: str, messages: Sequence[StoredMessage], *, asking: Sequence[str] = (), prompt: str = ""
) -> list[StoredMessage]:
    """Return what was said between the operator and one specialist, each answer behind its question.

    `messages` are oldest first; other specialists' are passed over. Left out are the questions whose request ids are
    `asking` (they are being asked now), prompts that were no part of the conversation (a judge's, which carry a lane)
    with their answers, and answers that another one replaced. A question without any text of an answer is followed by
    `NO_ANSWER`, and left out when the next question, or the `prompt` that is asked now, repeats it.
    """
    answers = _answers(ai_id, messages)
    said: list[StoredMessage] = []
    unanswered: StoredMessage | None = None
    for message in messages:
        if message.role == "assistant" and (message.author != ai_id or message.request_id):
            continue  # another's, or behind its question already; without a request id its place is all that is known
        if message.role != "user" or not message.request_id:
            said.append(message)
            continue
        if message.lane or message.request_id in asking:
            continue
        if unanswered is not None and unanswered.content == message.content:
            del said[-2:]
        answer = answers.get(message.request_id)
        unanswered = None if answer else message
        said += [message, answer or _no_answer(ai_id, message)]
    if unanswered is not None and unanswered.content == prompt:
        del said[-2:]
    return said


def as_heard(ai_id: str, pinned: StoredMessage) -> StoredMessage:
    """Return a pinned message as one specialist is shown it: what another one said is no word of its own."""
    if pinned.role != "assistant" or pinned.author == ai_id:
        return pinned
    said = f"{pinned.author.removesuffix('-ai')} said: {pinned.content}"
    return msgspec.structs.replace(pinned, role="user", content=said)


def _answers(ai_id: str, messages: Sequence[StoredMessage]) -> dict[str, StoredMessage]:
    """Return the newest answer with any text to each question, by the question's request id."""
    questions = {message.request_id for message in messages if message.role == "user"}
    answers: dict[str, StoredMessage] = {}
    for message in messages:
        if message.role == "assistant" and message.author == ai_id and message.content.strip():
            answers[_question_of(message, questions)] = message
    return answers


def _question_of(answer: StoredMessage, questions: set[str]) -> str:
    """Return the request id of the question an answer belongs to, empty when that is not there.

    A member of a team answers the team's question under `<team>/<member>`, or `<team>/<member>/…` when asked again.
    """
    if answer.request_id in questions:
        return answer.request_id
    lane = answer.lane
    member = f"{lane}/{answer.author}"
    own = answer.request_id == member or answer.request_id.startswith(f"{member}/")
    return lane if own and lane in questions else ""


def _no_answer(ai_id: str, question: StoredMessage) -> StoredMessage:
    return StoredMessage(question.id, question.session_id, ai_id, "assistant", NO_ANSWER, question.created_at)

"""The Agent Client Protocol, both ways: its messages, its lines, and one end of a connection.

`messages` are the values, `wire` turns bytes into frames and back, `peer` asks and answers. Knows neither processes nor
sockets, and nothing of specialists; the SDK of the protocol is only the partner of the tests.
"""

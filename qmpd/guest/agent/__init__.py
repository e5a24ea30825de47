"""The guest agent: a program in the guest that answers its host, played on a small model of the guest.

`model` is that guest: its names, its users, its file systems.  `files` and `programs` are what is in it.  A module of
`commands` has each family of commands: functions from arguments to values, which change the model or the machine.
`agent` has what they share.  `port` is the course of the agent in a machine: when it opens its port, when
it is deaf, how long it takes.  The bytes in between are the monitor's (`qmpd.monitor.agent`).

(QEMU's document: docs/interop/qemu-ga.  The recordings `agent` show what the real program answers.)
"""

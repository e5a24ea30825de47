"""What QEMU refuses, asked through every door that can ask it, of qmpd and of the real programs.

`rooms/*.txt` are the questions, `python -m tests.refusals.record` asks the real programs and keeps what they say,
`known.txt` lists what qmpd is known to answer otherwise, and why.  `tests.refusals.table` says how to add a question.
"""

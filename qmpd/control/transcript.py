"""The commands about the transcript."""

from __future__ import annotations

from qmpd.control.declaration import Group, command
from qmpd.control.recorder import EntryKind, Timestamp, TranscriptEntry, members_of, timestamp_of


class TranscriptControl(Group):
    """The transcript."""

    __slots__ = ()

    @command("query-transcript")
    def query(
        self, since: int = 0, kind: EntryKind | str | None = None, client: int | None = None
    ) -> list[TranscriptEntry]:
        """Give the entries after number `since`, of one kind or of one client where that is asked for."""
        return [
            TranscriptEntry(kept[0], kept[1], Timestamp(*timestamp_of(kept)), kept[3], **members_of(kept))
            for kept in self._stage.recorder.entries(since)
            if (kind is None or kept[3] is kind) and (client is None or kept[4].get("client") == client)
        ]

    @command("transcript-reset")
    def reset(self) -> None:
        """Forget all entries and count from 1 again."""
        self._stage.recorder.reset()

"""What reading and writing an image can fail with."""

from __future__ import annotations

import errno
import os

from qmpd.common.refusals import Worded


class ImageError(Worded):
    """An image cannot be opened or used; the text is QEMU's own, and `number` the error number that goes with it."""

    __slots__ = ("number",)

    def __init__(self, message: str, number: int = errno.EINVAL) -> None:
        super().__init__(message)
        self.number = number


class CorruptImage(ImageError):  # noqa: N818 - named after what happened
    """An image contradicts itself; `fatal`: nothing of it can be trusted any more."""

    __slots__ = ("fatal", "place")

    def __init__(self, message: str, *, fatal: bool = True) -> None:
        super().__init__(message, errno.EIO)
        self.fatal = fatal
        # Where in the file, and how many bytes; None where no place is meant.
        self.place: tuple[int, int] | None = None


def of_system(error: OSError) -> ImageError:
    """An error of the operating system as one of the image, in the system's words."""
    number = error.errno or errno.EIO
    return ImageError(os.strerror(number), number)


def failure(number: int) -> OSError:
    """What the operating system raises with this error number."""
    return OSError(number, os.strerror(number))


def text(number: int) -> str:
    """What the operating system says of this error number."""
    return os.strerror(number)

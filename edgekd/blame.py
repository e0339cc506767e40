"""Errors of Python and its libraries that are no bug: whose they are, by what they say of themselves."""

from __future__ import annotations

import errno

from edgekd.atomic import REMEDY
from edgekd.errors import EdgekdError, EnvironmentFault, InputError

_Whose = tuple[type[EdgekdError], str]

# Numbers of an `OSError` that names a path: whose fault it is, and the remedy.
_FULL: _Whose = (EnvironmentFault, REMEDY)
_HELD: _Whose = (EnvironmentFault, "see what holds it, or who may use it")
_NAMED: _Whose = (InputError, "correct the path")
_OF_FILES: dict[int, _Whose] = {
    **dict.fromkeys((errno.ENOSPC, errno.EROFS, errno.EDQUOT), _FULL),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.EIO, errno.EBUSY), _HELD),
    **dict.fromkeys(
        (errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EINVAL, errno.EFBIG), _NAMED
    ),
}
# Of torch's allocator, of the loader of libraries, of ONNX Runtime's allocator.
_NO_MEMORY = ("can't allocate memory", "cannot allocate memory", "failed to map segment", "bad allocation", "bad_alloc")


def blame(error: BaseException) -> EdgekdError | None:
    """The same error with an exit code and a remedy; None where it is edgekd's own fault."""
    if _is_out_of_memory(error):
        return EnvironmentFault(f"memory: not enough of it ({error}); free some, or lower train.batch or imgsz")
    if isinstance(error, ValueError) and "embedded null" in str(error):
        return InputError("a path holds a NUL, which none does; correct it")
    if isinstance(error, OSError) and error.errno in _OF_FILES:
        kind, remedy = _OF_FILES[error.errno]
        return kind(f"{error.filename if error.filename is not None else 'disk'}: {error.strerror}; {remedy}")
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    said = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or type(error).__name__ == "OutOfMemoryError"
        or any(words in said for words in _NO_MEMORY)
    )

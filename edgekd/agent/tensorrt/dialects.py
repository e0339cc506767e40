# SPDX-License-Identifier: Apache-2.0
"""What differs between the versions of TensorRT, as tables: the code that builds and runs has no branches for it.

The names were read from the bindings of 8.6.1, 10.3.0 and 11.4.0 and from the notes on migration of 10 and 11.
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Tuple

from ..protocol import AgentError

STRONG, WEAK = "strong", "weak"

Flags = Dict[str, Tuple[str, ...]]


class Dialect(NamedTuple):
    """One family of versions.

    Attributes:
        name: as people say it.
        typings: `strong`: layers compute in the formats that stand in the ONNX; `weak`: the builder chooses among the
            allowed ones. The better one first.
        network_flags: of `NetworkDefinitionCreationFlag`, by typing.
        precision_flags: of `BuilderFlag` in a weakly typed network, by precision of the artifact.
        named_nodes: a parser error has `node_name` and `node_operator`.
        trtexec_typing: flags of trtexec, by typing.
        trtexec_precision: flags of trtexec for a weakly typed network, by precision of the artifact.
    """

    name: str
    typings: Tuple[str, ...]
    network_flags: Flags
    precision_flags: Flags
    named_nodes: bool
    trtexec_typing: Flags
    trtexec_precision: Flags

    def typing(self, dla: bool) -> str:
        """How to type the network: DLA takes weak typing wherever there is some."""
        return WEAK if dla and WEAK in self.typings else self.typings[0]


_PRECISION_FLAGS: Flags = {"fp32": (), "fp16": ("FP16",), "int8": ("INT8",)}
_TRTEXEC_PRECISION: Flags = {"fp32": (), "fp16": ("--fp16",), "int8": ("--int8",)}

_DIALECTS = {
    (8, 6): Dialect(
        "8.6",
        (WEAK,),
        {WEAK: ("EXPLICIT_BATCH",)},
        _PRECISION_FLAGS,
        False,
        {WEAK: ()},
        _TRTEXEC_PRECISION,
    ),
    (10,): Dialect(
        "10",
        (STRONG, WEAK),
        {STRONG: ("STRONGLY_TYPED",), WEAK: ()},
        _PRECISION_FLAGS,
        True,
        {STRONG: ("--stronglyTyped",), WEAK: ()},
        _TRTEXEC_PRECISION,
    ),
    (11,): Dialect(
        "11",
        (STRONG,),
        {STRONG: ()},
        {},
        True,
        {STRONG: ()},
        {},
    ),
}


def numbers(version: str) -> Tuple[int, ...]:
    """The numbers of a version, e.g. (10, 3, 0, 26)."""
    parts = []
    for part in version.split("."):
        digits = "".join(character for character in part if character.isdigit())
        parts.append(int(digits or 0))
    return tuple(parts)


def dialect_of(version: str) -> Dialect:
    """The dialect of a version.

    Raises:
        AgentError: none is known.
    """
    given = numbers(version)
    for prefix, dialect in _DIALECTS.items():
        if given[: len(prefix)] == prefix:
            return dialect
    known = ", ".join(dialect.name for dialect in _DIALECTS.values())
    raise AgentError(
        "runtime",
        f"TensorRT {version} is not known to this agent (known: {known}); install one of these, or run the"
        " ONNX target with onnxruntime on this device",
    )

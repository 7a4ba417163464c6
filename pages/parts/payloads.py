"""The bytes of an event as a person reads them: JSON indented, anything else in hexadecimal."""

from __future__ import annotations

import json

import streamlit as st

SHOWN_BYTES = 4096
_LINE = 16


def draw(payload: bytes) -> None:
    text, language = readable(payload)
    st.code(text, language=language, wrap_lines=language == "json")
    if len(payload) > SHOWN_BYTES and language is None:
        st.caption(f"The first {SHOWN_BYTES:,} of {len(payload):,} bytes.")


def readable(payload: bytes) -> tuple[str, str | None]:
    """``(text, language)``: indented JSON, or a hex dump with offsets and the printable characters beside it."""
    try:
        return json.dumps(json.loads(payload), indent=2, ensure_ascii=False), "json"
    except ValueError:
        return hex_dump(payload[:SHOWN_BYTES]), None


def hex_dump(payload: bytes) -> str:
    lines = []
    for start in range(0, len(payload), _LINE):
        part = payload[start : start + _LINE]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:06x}  {part.hex(' '):<{_LINE * 3}} {shown}")
    return "\n".join(lines) or "(empty)"

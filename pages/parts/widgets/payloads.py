"""Payloads of events: indented JSON, or a hex dump of anything else; and the expanders in which they are shown.

A link and a step back restore the open expanders, because the address lists them. The parameter is not bound to a
widget, because a bound parameter is lost after a step back from an order.
"""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Callable, Mapping

import streamlit as st

from pages.parts import address
from services.domain.external import read_json

SHOWN_BYTES = 4096
_LINE = 16


MOST_BYTES = 64 * 1024
"""Maximum bytes of a payload that is formatted. Of a larger payload, only the unformatted beginning is shown."""


def draw(payload: bytes, size: int, whole: Callable[[], bytes] | bytes, *, file_name: str, key: str) -> None:
    """Draw a payload of ``size`` bytes. If ``payload`` is only its beginning, a button offers the whole as a file."""
    if size > min(len(payload), MOST_BYTES):
        beginning = payload[:SHOWN_BYTES]
        st.code(beginning.decode("utf-8", "replace").replace("\x00", "\ufffd"), language=None, wrap_lines=True)
        st.caption(f"The first {len(beginning):,} of {size:,} bytes.")
    else:
        text, language = readable(payload)
        st.code(text, language=language, wrap_lines=language == "json")
        if len(payload) > SHOWN_BYTES and language is None:
            st.caption(f"The first {SHOWN_BYTES:,} of {len(payload):,} bytes.")
    if size > len(payload):
        st.download_button(
            "Whole payload",
            whole,
            file_name=file_name,
            mime=mimetypes.guess_type(file_name)[0],
            key=key,
            icon=":material/download:",
            type="tertiary",
            on_click="ignore",
        )


def parts(values: Mapping[str, object], key: str) -> None:
    """Draw facts as a tree. If they are too large or too deep, draw the beginning and a button for the whole file."""
    written = json.dumps(values, ensure_ascii=False).encode("utf-8", "replace")
    try:
        st.json(read_json(written, MOST_BYTES), expanded=True)
    except ValueError:
        draw(written[:SHOWN_BYTES], len(written), written, file_name=f"{key}.json", key=f"payload_{key}")


def readable(payload: bytes) -> tuple[str, str | None]:
    """``(text, language)``: indented JSON, or a hex dump with offsets and the printable characters beside it."""
    try:
        # read_json() limits the depth, because every line repeats the indentation of all levels around it.
        return json.dumps(read_json(payload, MOST_BYTES), indent=2, ensure_ascii=False), "json"
    except ValueError:
        return hex_dump(payload[:SHOWN_BYTES]), None


def hex_dump(payload: bytes) -> str:
    lines = []
    for start in range(0, len(payload), _LINE):
        part = payload[start : start + _LINE]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:06x}  {part.hex(' '):<{_LINE * 3}} {shown}")
    return "\n".join(lines) or "(empty)"


OPEN = "open"
MOST = 20
"""Maximum names in the address; the latest are kept."""

_BETWEEN = "~"


def opened() -> list[str]:
    """Names of the open expanders, the latest last."""
    return [name for name in address.get(OPEN).split(_BETWEEN) if name][-MOST:]


def close() -> None:
    """Callback: close every expander."""
    address.drop(OPEN)


def expander(
    label: str,
    name: str,
    draw: Callable[[], object],
    *,
    is_compact: bool = True,
    touched: Callable[[], None] | None = None,
) -> None:
    """Draw an expander and, while it is open, its content. ``touched`` runs when it is opened or closed."""
    key = f"unfold_{name}"
    # The address decides whether the expander is open, also after a step back.
    st.session_state[key] = name in opened()
    box = st.expander(
        label, key=key, type="compact" if is_compact else "default", on_change=_toggle, args=(name, key, touched)
    )
    if box.open:
        with box:
            draw()


def _toggle(name: str, key: str, touched: Callable[[], None] | None) -> None:
    others = [one for one in opened() if one != name]
    names = [*others, name] if st.session_state.get(key) else others
    address.put(OPEN, _BETWEEN.join(names[-MOST:]))
    if touched:
        touched()

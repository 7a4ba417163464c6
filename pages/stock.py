"""Stock: the last known level of each variant, and the orders that wait for it."""

from __future__ import annotations

import streamlit as st

from pages.parts import frame, labels, listing, names
from pages.parts.widgets import clock, empty, list_filters, paging
from services.console.facade import console
from services.console.paging import Paged
from services.console.stock import StockPage, StockRow

NAME = "stock"
FILTER_KEYS = ("level", "product")


def _newest() -> None:
    paging.reset(NAME)


def filters() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.segmented_control(
            "Level",
            list(console().stock.LEVELS),
            key="level",
            bind="query-params",
            format_func=lambda level: labels.word(labels.STOCK, level).text,
            on_change=_newest,
        )
        listing.search("Product", "product", "Product id", _newest, width=300)
        list_filters.search_button("product", "Product id", _clear)
        wanted = _wanted()
        list_filters.csv(
            "stock", lambda: console().stock.csv(**wanted), key="stock_csv", what="The variants that match"
        )


def _wanted() -> dict[str, str | None]:
    return {
        "level": st.session_state.get("level"),
        "product_id": labels.typed(st.session_state.get("product")) or None,
    }


def _clear() -> None:
    st.session_state.update({"level": None, "product": ""})
    _newest()


def variants() -> None:
    wanted = _wanted()
    listing.draw(
        NAME,
        console().stock.page(**wanted, place=paging.place(NAME)),
        wanted,
        _id,
        _row,
        summary=lambda page: f"{page.out:,} out of stock, {page.low:,} low",
        nothing=lambda: _nothing(wanted),
        above=_waiting,
    )


def _id(row: StockRow) -> str:
    return f"{row.product.product_id}_{row.product.variant_id}"


def _nothing(wanted: dict[str, str | None]) -> None:
    if wanted["product_id"]:
        empty.nothing_matches("Nothing was heard about this product. Ids are searched as a whole, not in part.", _clear)
    elif wanted["level"] in ("out", "low"):
        empty.nothing_wrong("No product is reported as out of stock or low.")
    elif wanted["level"]:
        empty.nothing_matches("No product is reported as back in stock.", _clear)
    else:
        empty.no_data_yet("The Inventory Service has not reported on any product yet.")


def _waiting(page: StockPage) -> None:
    """Products that orders in PENDING_INVENTORY wait for."""
    if not page.waiting_orders:
        return
    many = f"{page.waiting_orders:,}{' or more' if page.is_waiting_capped else ''}"
    with st.container(border=True, gap="xsmall"):
        verb = "order waits" if page.waiting_orders == 1 else "orders wait"
        st.markdown(f"**{many} {verb} for inventory**")
        for product_id, variant_id, count, units in page.most_wanted:
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.markdown(f"{labels.plain(product_id)} {labels.plain(variant_id)}", width="stretch")
                st.caption(
                    f"{labels.count(count, 'order')}, {labels.count(units, 'unit')}",
                    width="content",
                )
                _orders_of(product_id)


def _orders_of(product_id: str) -> None:
    st.page_link(
        "orders.py", label="Show orders", icon=":material/arrow_forward:", width="content",
        query_params={"q": product_id, "status": labels.word(labels.ORDER, "PENDING_INVENTORY").text},
    )  # fmt: skip


def _row(row: StockRow, _: Paged[StockRow], *, gone: bool, grey: bool) -> None:
    product, now = row.product, console().now()
    with st.container(key=f"sku_{_id(row)}", gap="xxsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(labels.badge(labels.STOCK, product.level, grey=grey), width=130)
            st.markdown(f"{labels.plain(product.product_id)} {labels.plain(product.variant_id)}", width="stretch")
            if row.waiting:
                st.markdown(f":orange-badge[:material/hourglass_top: {row.waiting:,} waiting]", width="content")
                _orders_of(product.product_id)
        # A changed variant moves to the top of the list, so a row that is gone has changed.
        st.caption(f"{_facts(row, clock.both(product.changed_at, now))}{' · has changed since' if gone else ''}")


def _facts(row: StockRow, changed: str) -> str:
    product = row.product
    facts = [names.SOURCES.get(product.source, labels.plain(product.source)), f"since {changed}"]
    if product.available_quantity is not None:
        facts.append(f"{product.available_quantity:,} available")
    if product.threshold is not None:
        facts.append(f"low from {product.threshold:,}")
    if product.expires_at is not None:
        left = clock.span(product.expires_at - console().now())
        facts.append(f"without news it counts as available again in {left}")
    return " · ".join(facts)


NOTE = "Availability as last reported by events and checks. Only a reservation sets stock aside."
frame.page("Stock", variants, fixed=filters, filter_keys=FILTER_KEYS, note=NOTE)

"""What the tests see in the page."""

from typing import Any


def column(page: Any, name: str) -> list[str]:
    """The texts of a column of the table, from the top."""
    titles = page.eval_on_selector_all(
        "table.runs th[data-id]", "all => all.map((one) => one.dataset.id)"
    )
    place = titles.index(name) + 1  # the first cell is the tick
    return page.eval_on_selector_all(
        "#rows tr[data-row]", f"all => all.map((row) => row.cells[{place}].textContent)"
    )


def numbers(page: Any, name: str) -> list[float]:
    return [
        float(text.split(" ±")[0].replace("−", "-").replace(",", "")) for text in column(page, name)
    ]


def told(page: Any) -> str:
    """ "12 of 250 runs" """
    return page.text_content("#rows-told")


def fill(page: Any, name: str, text: str) -> None:
    page.fill(f'[data-filter="{name}"]', text)


def by_run(page: Any) -> None:
    page.uncheck("#group")


def drawn(page: Any, place: str) -> Any:
    """The data that plotly holds for the plot at a selector, once it is drawn."""
    page.locator(place).scroll_into_view_if_needed()
    page.wait_for_selector(f'{place}[data-state="drawn"]')
    return page.eval_on_selector(
        place,
        """(plot) => plot.data.map(({name, x, y, text, customdata, marker, mode}) =>
            ({name, x: [...x ?? []], y: [...y ?? []], text, customdata, mode,
              size: marker && marker.size}))""",
    )


def hover_point(page: Any, place: str, trace: int, point: int) -> tuple[float, float]:
    """Move to where plotly has drawn a point; that place."""
    page.locator(place).scroll_into_view_if_needed()
    x, y = page.eval_on_selector(
        place,
        f"""(plot) => {{
            const {{xaxis, yaxis}} = plot._fullLayout;
            const {{x, y}} = plot._fullData[{trace}];
            const box = plot.getBoundingClientRect();
            return [box.left + xaxis._offset + xaxis.d2p(x[{point}]),
                    box.top + yaxis._offset + yaxis.d2p(y[{point}])];
        }}""",
    )
    page.mouse.move(x - 2, y)
    page.mouse.move(x, y)
    return x, y


def click_point(page: Any, place: str, trace: int, point: int) -> None:
    page.mouse.click(*hover_point(page, place, trace, point))

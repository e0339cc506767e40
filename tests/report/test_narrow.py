"""Every cell of a table names its column, so that a narrow screen can set the cells below one another."""

from __future__ import annotations

from edgekd.report.narrow import columns, with_labels


def test_one_row_of_headers() -> None:
    head = '<tr><th scope="col" class="text">Target</th><th scope="col">p50,<br>ms</th></tr>'
    body = '<tr class="chosen"><th scope="row" title="x"><span>a</span></th><td class="n">1</td></tr>'
    assert with_labels(f"<p>a</p><table>\n<thead>{head}</thead>\n<tbody>{body}</tbody></table>") == (
        '<p>a</p><table role="table">\n<thead role="rowgroup"><tr role="row"><th role="columnheader" scope="col" '
        'class="text">Target</th><th role="columnheader" scope="col">p50,<br>ms</th></tr></thead>\n'
        '<tbody role="rowgroup">'
        '<tr role="row" class="chosen"><th role="rowheader" scope="row" title="x"><span>a</span></th>'
        '<td role="cell" data-label="p50, ms" class="n">1</td></tr></tbody></table>'
    )


def test_two_rows_of_headers() -> None:
    head = (
        '<thead><tr><th rowspan="2">Artifact</th><th colspan="2">Pre</th><th colspan="1">All</th></tr>'
        "<tr><th>p50</th><th>p90</th><th>p50</th></tr></thead>"
    )
    assert columns(head) == ["Artifact", "Pre, p50", "Pre, p90", "All, p50"]


def test_without_a_header_nothing_is_named() -> None:
    assert with_labels("<table><tbody><tr><td>1</td></tr></tbody></table>") == (
        '<table role="table"><tbody role="rowgroup"><tr role="row"><td role="cell">1</td></tr></tbody></table>'
    )


def test_names_stay_escaped() -> None:
    page = with_labels(
        '<table><thead><tr><th>&lt;b&gt; "x"</th></tr></thead><tbody><tr><td>1</td></tr></tbody></table>'
    )
    assert 'data-label="&lt;b&gt; &#34;x&#34;"' in page

"""Names that would do harm if anything took them for more than names."""

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><b>bold</b>",
    "<!--<script>",
    "a|b",
    "$x$ %{y}",
    "\"double\" 'single' & &lt;",
    "ünïcode ✓ 名前",
)

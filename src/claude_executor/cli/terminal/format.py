"""Numbers, durations and amounts of money as people read them."""


def amount(value: float) -> str:
    """Format a count in at most six characters: ``987``, ``12,345``, ``412k``, ``2.5M``."""
    if abs(value) < 99_999.5:
        return f"{value:,.0f}"
    if abs(value) < 999_500:
        return f"{value / 1_000:.0f}k"
    text = f"{value / 1_000_000:.1f}" if abs(value) < 99_950_000 else f"{value / 1_000_000:,.0f}"
    return text.removesuffix(".0") + "M"


def span(seconds: float) -> str:
    """Format a duration: ``0.5 s``, ``0:07``, ``12:34``, ``1:02:03``, ``3 days 4:05:06``."""
    if 0.05 <= seconds < 0.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    days, rest = divmod(whole, 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, secs = divmod(rest, 60)
    clock = f"{hours}:{minutes:02}:{secs:02}" if hours or days else f"{minutes}:{secs:02}"
    return f"{days} {'day' if days == 1 else 'days'} {clock}" if days else clock


def money(dollars: float | None) -> str:
    """Format an amount of dollars, or ``unknown`` for None."""
    if dollars is None:
        return "unknown"
    if dollars == 0:
        return "$0"
    if dollars >= 1:
        return f"${dollars:,.2f}"
    return f"${dollars:.4f}" if dollars >= 0.0001 else "under $0.0001"


def percent(share: float) -> str:
    """Format a fraction as a percentage."""
    return f"{100 * share:.0f} %"


def count(number: int, one: str, many: str | None = None) -> str:
    """Format a number and what it counts: ``1 row``, ``2 rows``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"

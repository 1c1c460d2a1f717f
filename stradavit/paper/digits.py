"""How numbers are printed: decimals, an interval without leading zeros, a small p as a bound.

Text has the true minus sign; LaTeX's math mode makes its own of the hyphen.
"""

from stradavit.paper.layout import BETTER, DIGITS, WORSE, Spread

LATEX_MARKS = {"": "", BETTER: r" $\blacktriangle$", WORSE: r" $\blacktriangledown$"}


def as_printed(value: float) -> float:
    """The number a reader sees; two of them tie if these are equal."""
    return round(value, DIGITS)


def decimal(value: float, is_signed: bool = False, digits: int = DIGITS) -> str:
    """So many decimals."""
    return _ascii(value, is_signed, digits).replace("-", "−")


def p_text(p: float) -> str:
    """A probability: two decimals where it is large, a bound where it is tiny."""
    if p < 0.001:
        return "< 0.001"
    return f"{p:.2f}" if p >= 0.1 else f"{p:.3f}"


def p_equation(p: float) -> str:
    """`p = 0.004` or `p < 0.001`."""
    text = p_text(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def interval_text(interval: tuple[float, float], is_signed: bool = False) -> str:
    """Both bounds in brackets."""
    return _brackets(interval, is_signed).replace("-", "−")


def spread_text(cell: Spread, digits: int = DIGITS) -> str:
    """Mean ± std [low, high], the test of a difference, the mark."""
    text = f"{decimal(cell.mean, cell.is_signed, digits)} ± {cell.std:.{digits}f}"
    if cell.interval:
        text += f" {interval_text(cell.interval, cell.is_signed)}"
    if cell.is_signed and cell.p_holm is not None:
        text += f", {p_equation(cell.p_holm)}"
    return f"{text} {cell.mark}" if cell.mark else text


def spread_latex(cell: Spread, digits: int = DIGITS) -> str:
    """The same for LaTeX, the interval in a smaller size."""
    text = rf"${_ascii(cell.mean, cell.is_signed, digits)} \pm {cell.std:.{digits}f}$"
    if cell.interval:
        text += rf" {{\scriptsize ${_brackets(cell.interval, cell.is_signed)}$}}"
    if cell.is_signed and cell.p_holm is not None:
        text += f", ${p_equation(cell.p_holm)}$"
    return text + LATEX_MARKS[cell.mark]


def _ascii(value: float, is_signed: bool, digits: int = DIGITS) -> str:
    text = f"{value:+.{digits}f}" if is_signed else f"{value:.{digits}f}"
    zero = f"{0:.{digits}f}"
    # A difference that rounds to zero has no side.
    return text.replace(f"-{zero}", f"+{zero}" if is_signed else zero)


def _brackets(interval: tuple[float, float], is_signed: bool) -> str:
    bounds = (_ascii(bound, is_signed) for bound in interval)
    return "[" + ", ".join(_without_zero(bound) for bound in bounds) + "]"


def _without_zero(text: str) -> str:
    sign, number = (text[0], text[1:]) if text[0] in "+-" else ("", text)
    return sign + (number[1:] if number.startswith("0.") else number)

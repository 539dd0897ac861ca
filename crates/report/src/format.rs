//! Numbers as text.

/// A count with its digits in threes.
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(c);
    }
    out
}

/// Bytes in the largest unit that keeps three digits.
pub(crate) fn bytes(n: u64) -> String {
    let n = n as f64;
    let (value, unit) = match n {
        n if n < 1e3 => return format!("{n:.0} B"),
        n if n < 1e6 => (n / 1e3, "KB"),
        n if n < 1e9 => (n / 1e6, "MB"),
        n => (n / 1e9, "GB"),
    };
    format!("{} {unit}", three_digits(value))
}

/// Multiply-accumulates.
pub(crate) fn macs(n: u64) -> String {
    let n = n as f64;
    match n {
        n if n < 1e6 => format!("{} thousand", three_digits(n / 1e3)),
        n if n < 1e9 => format!("{} million", three_digits(n / 1e6)),
        n => format!("{} billion", three_digits(n / 1e9)),
    }
}

/// A factor such as `7.9x`.
pub(crate) fn factor(x: f64) -> String {
    format!("{}\u{d7}", three_digits(x))
}

/// At least three significant digits.
fn three_digits(x: f64) -> String {
    match x.abs() {
        a if a < 9.995 => format!("{x:.2}"),
        a if a < 99.95 => format!("{x:.1}"),
        _ => format!("{x:.0}"),
    }
}

/// A share in percent.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// Seconds as minutes or hours where that reads better.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min {:02.0} s", (s / 60.0).floor(), (s % 60.0).floor()),
        s => format!("{:.0} h {:02.0} min", (s / 3600.0).floor(), (s / 60.0 % 60.0).floor()),
    }
}

/// A number of any size, short.
pub(crate) fn number(x: f64) -> String {
    match x.abs() {
        0.0 => "0".into(),
        a if (1e-3..1e5).contains(&a) => {
            let text = format!("{x:.4}");
            text.trim_end_matches('0').trim_end_matches('.').into()
        }
        _ => format!("{x:.2e}"),
    }
}

/// A coordinate in a picture.
pub(crate) fn at(x: f64) -> String {
    let text = format!("{x:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(273_000), "273 KB");
        assert_eq!(bytes(1_724_320), "1.72 MB");
        assert_eq!(factor(7.857), "7.86\u{d7}");
        assert_eq!(duration(3.21), "3.2 s");
        assert_eq!(duration(125.9), "2 min 05 s");
        assert_eq!(duration(7300.0), "2 h 01 min");
        assert_eq!(percent(0.98765), "98.77 %");
        assert_eq!(number(0.0), "0");
        assert_eq!(number(0.5), "0.5");
        assert_eq!(number(1e-7), "1.00e-7");
        assert_eq!(thousands(431_080), "431\u{202f}080");
        assert_eq!(at(12.04), "12");
        assert_eq!(macs(2_293_000), "2.29 million");
    }
}

//! The framing of a clear-signed message (RFC 9580, section 7).
//!
//! ```text
//!  -----BEGIN PGP SIGNED MESSAGE-----
//!  Hash: SHA256                           none, one or several; no other header
//!                                         one empty line
//!  Origin: Debian                         the text; `- ` is put before lines that begin with a dash
//!  -----BEGIN PGP SIGNATURE-----
//!  ...
//!  -----END PGP SIGNATURE-----            nothing behind but empty lines
//! ```
//!
//! **Security.** The text handed on is rebuilt line by line, and it is this rebuilt text that the signature is checked
//! over; so nothing can be believed that was not signed. A carriage return inside a line is refused, since text
//! signatures (RFC 9580, section 5.2.1.2) cannot tell it from a line break, and our parsers can.

use super::signature::MAX_BLOCK;

/// A message taken apart, not verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClearSigned {
    /// The text: unescaped, without white space at the ends of lines, lines joined by LF, none behind the last.
    pub text: Vec<u8>,
    /// The armored signatures.
    pub signatures: Vec<u8>,
}

const BEGIN: &[u8] = b"-----BEGIN PGP SIGNED MESSAGE-----";
const SIGNATURE: &[u8] = b"-----BEGIN PGP SIGNATURE-----";
const END: &[u8] = b"-----END PGP SIGNATURE-----";

/// Takes exactly one message apart; says what is wrong with the framing otherwise.
pub fn split(message: &[u8]) -> Result<ClearSigned, &'static str> {
    let mut lines = message.split(|&b| b == b'\n').map(trim_end);
    if lines.next() != Some(BEGIN) {
        return Err("it does not begin with a clear-signed message");
    }
    loop {
        match lines.next() {
            Some(b"") => break,
            Some(header) if header.starts_with(b"Hash: ") && is_plain(header) => {}
            Some(_) => return Err("a header other than Hash before the signed text"),
            None => return Err("it ends before the signed text"),
        }
    }
    let mut text = Vec::with_capacity(message.len());
    let mut first = true;
    loop {
        let line = match lines.next().ok_or("it ends before the signature")? {
            line if line == SIGNATURE => break,
            // The space of an escaped empty line was taken off with the white space behind it.
            b"-" => b"",
            line => match line.strip_prefix(b"- ") {
                Some(escaped) => escaped,
                None if line.starts_with(b"-") => return Err("a line with an unescaped dash in the signed text"),
                None => line,
            },
        };
        if !is_plain(line) {
            return Err("a carriage return or NUL inside a line of the signed text");
        }
        if !first {
            text.push(b'\n');
        }
        first = false;
        text.extend_from_slice(line);
    }
    let mut signatures = SIGNATURE.to_vec();
    loop {
        let line = lines.next().ok_or("it ends inside the signature")?;
        signatures.push(b'\n');
        signatures.extend_from_slice(line);
        match line {
            END => break,
            line if line.starts_with(b"-") => return Err("a line with a dash inside the signature"),
            line if !is_plain(line) => return Err("a carriage return or NUL inside a line of the signature"),
            _ if signatures.len() > MAX_BLOCK => return Err("a signature of more than 64 KiB"),
            _ => {}
        }
    }
    signatures.push(b'\n');
    if lines.any(|line| !line.is_empty()) {
        return Err("text behind the signature");
    }
    Ok(ClearSigned { text, signatures })
}

/// Whether a text has no NUL, and no carriage return but before line feeds.
pub fn is_plain(text: &[u8]) -> bool {
    let lone = |at: usize| text[at] == b'\r' && text.get(at + 1) != Some(&b'\n');
    !(0..text.len()).any(|at| text[at] == 0 || lone(at))
}

/// Takes off the carriage return of a line end, then spaces and tabs, which are not signed.
fn trim_end(line: &[u8]) -> &[u8] {
    let mut line = line.strip_suffix(b"\r").unwrap_or(line);
    while let Some(shorter) = line.strip_suffix(b" ").or_else(|| line.strip_suffix(b"\t")) {
        line = shorter;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(head: &str, text: &str, tail: &str) -> String {
        format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\n{head}\n{text}\n-----BEGIN PGP SIGNATURE-----\n\nwsBz\n-----END PGP SIGNATURE-----\n{tail}"
        )
    }

    fn text(message: &str) -> Result<String, &'static str> {
        split(message.as_bytes()).map(|split| String::from_utf8(split.text).unwrap())
    }

    #[test]
    fn text_is_unescaped_and_stripped() {
        let message = framed("Hash: SHA256\nHash: SHA512\n", "A: 1 \t\n- -dash\n- \n\nB: 2", "\n \n");
        assert_eq!(text(&message).as_deref(), Ok("A: 1\n-dash\n\n\nB: 2"));
        assert_eq!(text(&message.replace('\n', "\r\n")).as_deref(), Ok("A: 1\n-dash\n\n\nB: 2"));
        let signatures = split(message.as_bytes()).unwrap().signatures;
        assert_eq!(signatures, b"-----BEGIN PGP SIGNATURE-----\n\nwsBz\n-----END PGP SIGNATURE-----\n");
        assert_eq!(text(&framed("", "A: 1", "")).as_deref(), Ok("A: 1"));
    }

    #[test]
    fn nothing_may_stand_outside_of_the_framing() {
        let good = framed("", "A: 1", "");
        for bad in [
            format!("X: 1\n{good}"),
            format!("\n{good}"),
            format!("\u{feff}{good}"),
            format!("{good}X: 1\n"),
            format!("{good}{good}"),
            good.replace("-----END", "=END"),
            good.replace("-----END", "-----BEGIN PGP SIGNATURE-----\n-----END"),
            framed("NotDashEscaped: x\n", "-A: 1", ""),
            framed("Hash: SHA256\nX: 1\n", "A: 1", ""),
            framed("Hash: SHA256\rX: 1\n", "A: 1", ""),
            framed("Hash: SHA256", "A: 1", ""),
            framed("", "-A: 1", ""),
            framed("", "-----BEGIN PGP SIGNED MESSAGE-----\n\nA: 1", ""),
            framed("", "A: 1\rB: 2", ""),
            framed("", "A: 1\r\r\nB: 2", ""),
            framed("", "A: 1\0", ""),
            good.replace("wsBz", "ws\0Bz"),
            good.replace("wsBz", "ws\rBz"),
            "-----BEGIN PGP SIGNED MESSAGE-----".to_owned(),
            "-----BEGIN PGP SIGNED MESSAGE-----\n\nA: 1\n".to_owned(),
            String::new(),
            "Origin: Debian\n".to_owned(),
        ] {
            assert!(split(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_framed_is_taken_apart_again(
            lines in proptest::collection::vec("(- |-|-----(BEGIN|END) PGP SIGNATURE-----)?[ -~\u{e4}\t]{0,12}", 1..8),
            blanks in proptest::collection::vec("[ \t]{0,3}", 8),
            crlf: bool,
        ) {
            let lines: Vec<_> = lines.iter().map(|line| line.trim_end_matches([' ', '\t'])).collect();
            let escape = |line: &&str| if line.starts_with('-') { format!("- {line}") } else { (*line).to_owned() };
            let escaped: Vec<_> = lines.iter().map(escape).zip(&blanks).map(|(line, blank)| line + blank).collect();
            let message = framed("Hash: SHA512\n", &escaped.join("\n"), "");
            let message = if crlf { message.replace('\n', "\r\n") } else { message };
            proptest::prop_assert_eq!(text(&message), Ok(lines.join("\n")));
        }
    }

    #[test]
    fn an_endless_signature_is_refused() {
        let message = framed("", "A: 1", "").replace("wsBz", &"wsBz\n".repeat(MAX_BLOCK));
        assert_eq!(text(&message), Err("a signature of more than 64 KiB"));
    }
}

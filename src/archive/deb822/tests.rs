use std::io::{BufReader, Read, repeat};

use proptest::prelude::*;

use super::*;

/// Every paragraph's fields, or the text of the error in its place.
fn read(text: &[u8], comments: Comments) -> Vec<Result<Vec<(String, String)>, String>> {
    let mut paragraphs = Paragraphs::new(text, comments);
    let mut all = Vec::new();
    loop {
        match paragraphs.next_paragraph() {
            Ok(None) => return all,
            Ok(Some(paragraph)) => {
                let field = |span: &Span| {
                    let name = String::from_utf8_lossy(&paragraph.text[span.start..span.colon]).into_owned();
                    let value = paragraph.bytes(&name).unwrap();
                    (name.clone(), String::from_utf8_lossy(value).into_owned())
                };
                all.push(Ok(paragraph.fields.iter().map(field).collect()));
            }
            Err(error) => all.push(Err(error.to_string())),
        }
    }
}

fn fields(pairs: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
    Ok(pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect())
}

#[test]
fn fields_are_folded_and_paragraphs_end_at_empty_lines() {
    let text = b"\n\nA: 1\nB:  2 \n 3\n\t4\n\n \t \nC:\n x\n";
    let want = [fields(&[("A", "1"), ("B", "2 \n 3\n\t4")]), fields(&[("C", "x")])];
    assert_eq!(read(text, Comments::Refused), want);
}

#[test]
fn carriage_returns_before_line_ends_do_not_matter() {
    assert_eq!(read(b"A: 1\r\n 2\r\n\r\nB: 3\r\n", Comments::Refused), read(b"A: 1\n 2\n\nB: 3", Comments::Refused));
}

#[test]
fn comments_are_skipped_only_where_people_write() {
    let text = b"# head\nA: 1\n# between\n 2\n#\n\n# tail\n";
    assert_eq!(read(text, Comments::Skipped), [fields(&[("A", "1\n 2")])]);
    assert!(read(text, Comments::Refused)[0].is_err());
}

#[test]
fn a_malformed_paragraph_is_named_by_line_and_field_and_the_next_one_is_read() {
    for (bad, error) in [
        ("A: 1\na: 2", "line 2: field a: given twice"),
        (" 1", "line 1: a folded line without a field before it"),
        ("A: 1\nnonsense", "line 2: neither a field nor a folded line"),
        (": 1", "line 1: not a field name"),
        ("-A: 1", "line 1: not a field name"),
        ("A B: 1", "line 1: not a field name"),
        ("\u{e4}: 1", "line 1: not a field name"),
    ] {
        let text = format!("{bad}\nZ: 9\n\nB: 1\n");
        let want = [Err(error.to_owned()), fields(&[("B", "1")])];
        assert_eq!(read(text.as_bytes(), Comments::Refused), want, "{bad}");
    }
}

#[test]
fn too_many_fields_are_an_error() {
    let text: String = (0..=MAX_FIELDS).map(|i| format!("F{i}: x\n")).collect();
    assert_eq!(
        read(text.as_bytes(), Comments::Refused),
        [Err("line 257: field F256: more than 256 fields".to_owned())]
    );
}

#[test]
fn a_line_of_a_gigabyte_is_an_error_after_a_megabyte() {
    let mut endless = BufReader::new(repeat(b'x').take(1 << 30));
    let mut paragraphs = Paragraphs::new(&mut endless, Comments::Refused);
    let error = paragraphs.next_paragraph().unwrap_err();
    assert!(matches!(error, BadText::TooLong { line: 1, what: "line", .. }), "{error}");
    assert!(paragraphs.text.capacity() < 4 * MAX_LINE, "{}", paragraphs.text.capacity());
    assert!(paragraphs.next_paragraph().unwrap().is_none());
    assert!(endless.into_inner().limit() > (1 << 30) - 4 * MAX_LINE as u64);
}

#[test]
fn a_paragraph_without_end_is_an_error() {
    let line = format!(" {}\n", "x".repeat(MAX_LINE / 2));
    let text = format!("A: 1\n{}", line.repeat(20));
    let error = Paragraphs::new(text.as_bytes(), Comments::Refused).next_paragraph().unwrap_err().to_string();
    assert!(error.ends_with("more than 8388608 bytes in a paragraph"), "{error}");
}

#[test]
fn bytes_that_are_not_text_harm_only_their_own_field() {
    let mut paragraphs = Paragraphs::new(&b"A: \xff\nB: 2\n"[..], Comments::Refused);
    let paragraph = paragraphs.next_paragraph().unwrap().unwrap();
    assert_eq!(paragraph.text("B").unwrap(), Some("2"));
    assert_eq!(paragraph.text("A").unwrap_err().to_string(), "line 1: field A: not UTF-8");
    assert_eq!(paragraph.required("C").unwrap_err().to_string(), "line 1: field C: missing");
}

#[test]
fn the_lines_of_a_folded_field_are_numbered() {
    let text = b"\nA: 1\nB: 2\n 3 \n\t4 4\r\nC:\n 5\nD: \xff\n";
    let mut paragraphs = Paragraphs::new(&text[..], Comments::Refused);
    let paragraph = paragraphs.next_paragraph().unwrap().unwrap();
    let lines = |name| paragraph.lines(name).unwrap().collect::<Vec<_>>();
    assert_eq!(lines("B"), [(3, "2"), (4, "3"), (5, "4 4")]);
    assert_eq!(lines("C"), [(7, "5")]);
    assert_eq!(lines("E"), []);
    assert_eq!(paragraph.lines("D").err().unwrap().to_string(), "line 8: field D: not UTF-8");
    assert_eq!(paragraph.fault_at(4, "B", "odd").to_string(), "line 4: field B: odd");
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        paragraphs in proptest::collection::vec(
            proptest::collection::btree_map("[A-Z][a-zA-Z0-9-]{0,8}", "[!-~]([ -~]{0,20}[!-~])?(\n [!-~]{1,9}){0,3}", 1..6),
            0..5,
        ),
        crlf: bool,
    ) {
        let lower: Vec<_> = paragraphs.iter().flat_map(|p| p.keys().map(|k| k.to_lowercase())).collect();
        let distinct = paragraphs.iter().all(|p| {
            p.keys().map(|k| k.to_lowercase()).collect::<std::collections::BTreeSet<_>>().len() == p.len()
        });
        prop_assume!(distinct, "names differ in more than case: {:?}", lower);
        let mut text = String::new();
        for paragraph in &paragraphs {
            for (name, value) in paragraph {
                text += &format!("{name}: {value}\n");
            }
            text += "\n";
        }
        if crlf {
            text = text.replace('\n', "\r\n");
        }
        let want: Vec<_> = paragraphs.iter().map(|p| Ok(p.clone().into_iter().collect::<Vec<_>>())).collect();
        let got = read(text.as_bytes(), Comments::Refused);
        let got: Vec<_> = got.into_iter().map(|p| p.map(|fields| fields.into_iter().map(|(n, v)| (n, v.replace('\r', ""))).collect::<Vec<_>>())).collect();
        prop_assert_eq!(got, want);
    }

    #[test]
    fn any_bytes_come_to_an_end(text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b':'), Just(b' '), any::<u8>()], 0..200)) {
        let read = read(&text, Comments::Skipped);
        prop_assert!(read.len() <= text.len());
    }
}

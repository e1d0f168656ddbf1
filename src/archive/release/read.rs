//! The text of a Release, read once its signature was found good.

use std::{collections::BTreeMap, time::SystemTime};

use super::{
    super::{
        Hex, checksums, date,
        deb822::{BadText, Comments, Paragraph, Paragraphs},
        path, pins,
        signature::Signer,
    },
    MAX_MEMBERS, Member, Place, Release,
};

/// Reads the one paragraph that a Release is.
pub fn read(text: &[u8], place: Place, signer: Signer) -> Result<Release, BadText> {
    let mut paragraphs = Paragraphs::new(text, Comments::Refused);
    let empty = || BadText::Paragraph { line: 1, field: None, reason: "an empty Release" };
    let paragraph = paragraphs.next_paragraph()?.ok_or_else(empty)?;
    let date = read_date(paragraph, "Date")?.ok_or_else(|| paragraph.fault("Date", "missing"))?;
    let owned = |name| Ok::<_, BadText>(paragraph.text(name)?.map(str::to_owned));
    let release = Release {
        signer,
        origin: owned("Origin")?,
        suite: owned("Suite")?,
        codename: owned("Codename")?,
        components: paragraph.words("Components")?.map(str::to_owned).collect(),
        date,
        valid_until: read_date(paragraph, "Valid-Until")?,
        has_by_hash: paragraph.text("Acquire-By-Hash")?.is_some_and(|text| text.eq_ignore_ascii_case("yes")),
        next_signers: pins::read(paragraph)?,
        members: read_members(paragraph)?,
        place,
    };
    match paragraphs.next_paragraph()? {
        None => Ok(release),
        Some(second) => Err(BadText::Paragraph { line: second.line(), field: None, reason: "a second paragraph" }),
    }
}

fn read_date(paragraph: Paragraph<'_>, name: &str) -> Result<Option<SystemTime>, BadText> {
    let text = paragraph.text(name)?;
    text.map(|text| date::parse(text).ok_or_else(|| paragraph.fault(name, "not a date"))).transpose()
}

/// Reads the `SHA256` section. A path that is not legal in an archive is left out: nothing can be asked for by it.
fn read_members(paragraph: Paragraph<'_>) -> Result<BTreeMap<String, Member>, BadText> {
    const SECTION: &str = "SHA256";
    paragraph.required(SECTION)?;
    let mut members = BTreeMap::new();
    for file in checksums::read(paragraph, SECTION)? {
        let file = file?;
        let Ok(path) = path::normalise_file(file.path) else { continue };
        let member = Member { expected: file.expected, md5: None, sha512: None };
        if members.insert(path, member).is_some_and(|other| other != member) {
            return Err(paragraph.fault_at(file.line, SECTION, "one path with two digests"));
        }
        if members.len() > MAX_MEMBERS {
            return Err(paragraph.fault_at(file.line, SECTION, "more than 100000 files"));
        }
    }
    name_members(&mut members, paragraph, "MD5Sum", |member, md5: Hex<16>| member.md5 = Some(md5));
    name_members(&mut members, paragraph, "SHA512", |member, sha512: Hex<64>| member.sha512 = Some(sha512));
    Ok(members)
}

/// Gives members the further digests that another section has for files of their paths and sizes.
fn name_members<const N: usize>(
    members: &mut BTreeMap<String, Member>,
    paragraph: Paragraph<'_>,
    section: &str,
    name: impl Fn(&mut Member, Hex<N>),
) {
    for (digest, size, path) in checksums::names(paragraph, section) {
        let member = path::normalise_file(path).ok().and_then(|path| members.get_mut(&path));
        if let Some(member) = member.filter(|member| member.expected.size == size) {
            name(member, digest);
        }
    }
}

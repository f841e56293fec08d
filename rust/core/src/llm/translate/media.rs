//! Images, documents and sounds: data URLs, media types and the short format names of dialects that have those.
//!
//! Rules: base64 is passed on as it came and never decoded but for plain text; a type that is not known is not guessed.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;

use super::chat::{Kind, Media, Source};

/// Short names of formats (Bedrock's `format`, OpenAI's `input_audio.format`) and the media types they stand for.
const FORMATS: [(&str, &str); 25] = [
    ("png", "image/png"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("pdf", "application/pdf"),
    ("csv", "text/csv"),
    ("doc", "application/msword"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("xls", "application/vnd.ms-excel"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("html", "text/html"),
    ("txt", "text/plain"),
    ("md", "text/markdown"),
    ("mp3", "audio/mpeg"),
    ("mp3", "audio/mp3"),
    ("wav", "audio/wav"),
    ("flac", "audio/flac"),
    ("ogg", "audio/ogg"),
    ("opus", "audio/opus"),
    ("aac", "audio/aac"),
    ("mp4", "video/mp4"),
    ("mov", "video/quicktime"),
    ("mkv", "video/x-matroska"),
    ("webm", "video/webm"),
];

pub(super) fn type_of(format: &str) -> Option<&'static str> {
    FORMATS.iter().find(|(short, _)| short.eq_ignore_ascii_case(format)).map(|(_, media_type)| *media_type)
}

pub(super) fn format_of(media_type: &str) -> Option<&'static str> {
    let essence = media_type.split(';').next().unwrap_or("").trim();
    FORMATS.iter().find(|(_, known)| known.eq_ignore_ascii_case(essence)).map(|(short, _)| *short)
}

/// The type the ending of a URL's path or of a file's name promises.
pub(super) fn type_by_name(name: &str) -> Option<&'static str> {
    let path = name.split(['?', '#']).next().unwrap_or("");
    let (_, ending) = path.rsplit('/').next().unwrap_or("").rsplit_once('.')?;
    type_of(ending)
}

/// Type and base64 data of a `data:` URL.
pub(super) fn data_url(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("data:")?;
    let (head, data) = rest.split_once(',')?;
    head.strip_suffix(";base64").map(|media_type| (media_type, data))
}

/// What a URL field holds: the data itself, or where it is.
pub(super) fn from_url(kind: Kind, url: &str) -> Media {
    let blank = Media { kind, source: Source::Url(url.to_owned()), media_type: None, name: None, detail: None };
    match data_url(url) {
        Some((media_type, data)) => Media {
            media_type: (!media_type.is_empty()).then(|| media_type.to_owned()),
            source: plain_text(kind, media_type, data).unwrap_or_else(|| Source::Base64(data.to_owned())),
            ..blank
        },
        None => blank,
    }
}

/// Documents of plain text are text, for dialects that tell them apart from files.
pub(super) fn plain_text(kind: Kind, media_type: &str, data: &str) -> Option<Source> {
    if kind != Kind::Document || media_type != "text/plain" {
        return None;
    }
    Some(Source::Text(String::from_utf8(STANDARD.decode(data).ok()?).ok()?))
}

/// The media as a URL: `data:` for what is at hand. `None` for names in a provider's store.
pub(super) fn to_url(media: &Media) -> Option<String> {
    match &media.source {
        Source::Url(url) => Some(url.clone()),
        Source::Base64(data) => {
            let media_type = media.media_type.as_deref().unwrap_or("application/octet-stream");
            Some(format!("data:{media_type};base64,{data}"))
        }
        Source::Text(text) => Some(format!("data:text/plain;base64,{}", STANDARD.encode(text))),
        Source::File(_) => None,
    }
}

pub(super) fn encode(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

pub(super) fn decode_text(data: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(data).ok()?).ok()
}

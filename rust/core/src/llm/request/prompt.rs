//! How large a prompt is, as far as its bytes tell.
//!
//! The estimate: four bytes of ASCII make a token, three of other UTF-8 (a CJK character, three quarters of an
//! emoji); a message costs four more; JSON that describes (tools, schemas) counts with its punctuation. Media are
//! counted by constants that lie at the upper end of what providers bill for common sizes. Tokenisers of the large
//! providers stay within a third of it for prose, and below it for code and base64 in texts.

use super::super::json::{Cursor, Fault, Kind, Text};
use super::{canonical, Dialect};
use std::borrow::Cow;

/// Tokens of an image: one megapixel costs 765 at OpenAI, about 1,400 at Anthropic, 258 per tile at Gemini.
const IMAGE: u64 = 1200;
/// Tokens of a document that comes as a reference, of unknown size.
const DOCUMENT: u64 = 3000;
/// Bytes of a PDF for one token: a page has some 75 KB and costs some 2,000.
const DOCUMENT_BYTES: u64 = 32;
/// Bytes of sound or film for one token, and the least for one that comes as a reference.
const SOUND_BYTES: u64 = 512;
const SOUND: u64 = 1000;
/// Tokens around a message.
const MESSAGE: u64 = 4;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    dialect: Dialect,
    /// Bytes of ASCII and of other text.
    pub ascii: u64,
    pub wide: u64,
    pub messages: u64,
    pub images: u64,
    pub documents: u64,
    pub audio: u64,
    pub videos: u64,
    /// Tokens that are not texts': media by their size, and tokens sent as numbers.
    pub other: u64,
}

impl Default for Prompt {
    fn default() -> Prompt {
        Prompt::new(Dialect::OpenAiChat)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Medium {
    Image,
    Document,
    Audio,
    Video,
    /// What stands as data is a text.
    Text,
}

impl Prompt {
    pub(super) fn new(dialect: Dialect) -> Prompt {
        Prompt { dialect, ascii: 0, wide: 0, messages: 0, images: 0, documents: 0, audio: 0, videos: 0, other: 0 }
    }

    /// Estimate of its tokens.
    pub fn tokens(&self) -> u64 {
        let media = self.images * IMAGE + self.messages * MESSAGE;
        self.ascii.div_ceil(4) + self.wide.div_ceil(3) + media + self.other
    }

    /// A list of messages, or a prompt alone.
    pub(super) fn conversation(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Fault> {
        if cursor.peek()? != Kind::Array {
            self.messages += 1;
            return self.part(cursor);
        }
        cursor.elements(|cursor| {
            self.messages += u64::from(cursor.peek()? == Kind::Object);
            self.part(cursor)
        })?;
        Ok(())
    }

    /// A text, or whatever holds texts and media.
    pub(super) fn part(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Fault> {
        let left = self.value("", false, cursor)?;
        self.medium(Medium::Document, left);
        Ok(())
    }

    /// A value that counts as it stands: JSON is shown to the model.
    pub(super) fn structure(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Fault> {
        let range = cursor.skip()?;
        self.text(cursor.slice(range));
        Ok(())
    }

    fn text(&mut self, bytes: &[u8]) {
        let wide = if bytes.is_ascii() { 0 } else { bytes.iter().filter(|byte| !byte.is_ascii()).count() as u64 };
        self.ascii += bytes.len() as u64 - wide;
        self.wide += wide;
    }

    /// Counts the value of the member `name`; `plain` where nothing is a medium. Bytes of data whose kind is said
    /// further out are returned.
    fn value(&mut self, name: &str, plain: bool, cursor: &mut Cursor<'_>) -> Result<u64, Fault> {
        match cursor.peek()? {
            Kind::Object => self.object(name, plain, cursor),
            Kind::Array => {
                let mut left = 0;
                cursor.elements(|cursor| {
                    left += self.value(name, plain, cursor)?;
                    Ok(())
                })?;
                Ok(left)
            }
            Kind::String => {
                let text = cursor.string()?;
                let data =
                    !plain && (matches!(name, "data" | "bytes" | "file_data") || text.raw().starts_with(b"data:"));
                if data {
                    return Ok(text.raw().len() as u64);
                }
                if !matches!(name, "type" | "role") {
                    self.text(text.raw());
                }
                Ok(0)
            }
            // Embeddings take tokens as numbers.
            Kind::Number if name.is_empty() => {
                self.other += 1;
                cursor.skip().map(|_| 0)
            }
            _ => cursor.skip().map(|_| 0),
        }
    }

    fn object(&mut self, outer: &str, plain: bool, cursor: &mut Cursor<'_>) -> Result<u64, Fault> {
        let dialect = self.dialect;
        let mut medium = match (dialect, plain) {
            (Dialect::Bedrock, false) => named(outer),
            _ => None,
        };
        let mut left = 0;
        cursor.members(|name, cursor| {
            let name = canonical(dialect, name.decode());
            // Arguments and results of tools are whatever they are.
            let plain = plain || matches!(&*name, "input" | "args" | "arguments" | "response" | "json");
            if !plain && cursor.peek()? == Kind::String {
                let kind = match (dialect, &*name) {
                    (Dialect::Bedrock, _) => None,
                    (Dialect::Gemini, "mimeType") => mime(&cursor.clone().string()?),
                    (Dialect::Gemini, _) => None,
                    (_, "type") => typed(&cursor.clone().string()?),
                    _ => None,
                };
                medium = medium.or(kind);
            }
            left += self.value(&name, plain, cursor)?;
            Ok(())
        })?;
        match medium {
            None => Ok(left),
            Some(Medium::Text) => {
                self.ascii += left;
                Ok(0)
            }
            Some(medium) => {
                self.count(medium);
                self.medium(medium, left);
                if left == 0 {
                    self.other += match medium {
                        Medium::Document => DOCUMENT,
                        Medium::Audio | Medium::Video => SOUND,
                        _ => 0,
                    };
                }
                Ok(0)
            }
        }
    }

    fn count(&mut self, medium: Medium) {
        match medium {
            Medium::Image => self.images += 1,
            Medium::Document => self.documents += 1,
            Medium::Audio => self.audio += 1,
            Medium::Video => self.videos += 1,
            Medium::Text => {}
        }
    }

    /// Tokens of base64 data.
    fn medium(&mut self, medium: Medium, encoded: u64) {
        let bytes = encoded / 4 * 3;
        self.other += match medium {
            Medium::Image | Medium::Text => 0,
            Medium::Document => bytes.div_ceil(DOCUMENT_BYTES),
            Medium::Audio | Medium::Video => bytes.div_ceil(SOUND_BYTES),
        };
    }
}

/// What the `type` of a part of OpenAI's and Anthropic's messages says.
fn typed(text: &Text<'_>) -> Option<Medium> {
    match &*text.decode() {
        "image_url" | "input_image" | "image" => Some(Medium::Image),
        "file" | "input_file" | "document" => Some(Medium::Document),
        "input_audio" => Some(Medium::Audio),
        "video_url" | "input_video" => Some(Medium::Video),
        "text" => Some(Medium::Text),
        _ => None,
    }
}

/// What the name of a block of Bedrock's messages says.
fn named(name: &str) -> Option<Medium> {
    match name {
        "image" => Some(Medium::Image),
        "document" => Some(Medium::Document),
        "audio" => Some(Medium::Audio),
        "video" => Some(Medium::Video),
        _ => None,
    }
}

/// What the MIME type of Gemini's data says.
fn mime(text: &Text<'_>) -> Option<Medium> {
    let text: Cow<'_, str> = text.decode();
    match text.split_once('/')?.0 {
        "image" => Some(Medium::Image),
        "audio" => Some(Medium::Audio),
        "video" => Some(Medium::Video),
        _ => Some(Medium::Document),
    }
}

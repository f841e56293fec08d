//! gRPC-Web (`PROTOCOL-WEB.md` of gRPC): calls of browsers, whose HTTP has no trailers to read.
//!
//! Rules:
//! 1. A request's body is gRPC's own, in base64 if the type says `-text`. Base64 may be padded and go on behind
//!    it at any place, because clients encode piece by piece.
//! 2. An answer's body is gRPC's own, followed by one frame more: first byte 0x80, four bytes of length, and the
//!    trailers as `name: value` lines. In text form every flush ends on whole quartets, padded if it must be.
//! 3. An answer that was trailers only (`grpc-status` in the head) stays one: nothing follows its head.

use super::{is_grpc, Messages};
use crate::message::{BodyLength, Fields, Known, RequestHead, ResponseHead};
use base64::engine::general_purpose::STANDARD;
use base64::Engine;

/// Marks a frame that carries trailers.
const TRAILERS: u8 = 0x80;

/// A call's form on the client's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Web {
    /// The request's body is in base64.
    pub text: bool,
    /// The answer's is.
    pub answer_text: bool,
}

/// The body could not be base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotBase64;

impl Web {
    /// From a request's `content-type`; `None` when it is not gRPC-Web.
    pub fn of(content_type: &[u8]) -> Option<Web> {
        let (text, _) = split(content_type)?;
        Some(Web { text, answer_text: text })
    }

    /// Makes a gRPC request of a gRPC-Web one: type, no length (text form changes it; `accept` was for the
    /// gateway). `None` when it is not gRPC-Web, and then nothing is changed.
    pub fn request(head: &mut RequestHead) -> Option<Web> {
        let content_type = head.fields.get_known(Known::ContentType)?;
        let (text, rest) = split(content_type)?;
        let plain = [b"application/grpc", rest].concat();
        // Who asks for neither form in particular is answered in its own.
        let mut answer_text = text;
        let accepted = head.fields.all(b"accept").flat_map(|line| line.split(|&b| b == b','));
        for (index, (form, _)) in accepted.filter_map(|name| split(name.trim_ascii())).enumerate() {
            answer_text = form || (answer_text && index > 0);
        }
        let fields = &mut head.fields;
        fields.set_known(Known::ContentType, &plain);
        fields.remove_known(Known::Accept);
        fields.remove_known(Known::ContentLength);
        if text && head.length != BodyLength::None {
            head.length = BodyLength::Streamed;
        }
        Some(Web { text, answer_text })
    }

    /// Gives a gRPC answer's head the client's type. False, and nothing changed, when the answer is not gRPC
    /// (an HTTP error): its body must not be wrapped.
    pub fn answer(&self, head: &mut ResponseHead) -> bool {
        let Some(content_type) = head.fields.get_known(Known::ContentType).filter(|t| is_grpc(t)) else { return false };
        let form: &[u8] = if self.answer_text { b"application/grpc-web-text" } else { b"application/grpc-web" };
        let typed = [form, &content_type[b"application/grpc".len()..]].concat();
        head.fields.set_known(Known::ContentType, &typed);
        head.fields.remove_known(Known::ContentLength);
        head.fields.remove_known(Known::Trailer);
        if head.length != BodyLength::None {
            head.length = BodyLength::Streamed;
        }
        true
    }

    /// Reads the request's body.
    pub fn reader(&self) -> Reader {
        Reader { text: self.text, carry: [0; 4], held: 0 }
    }

    /// Writes the answer's.
    pub fn writer(&self) -> Writer {
        Writer { text: self.answer_text, carry: [0; 2], held: 0, messages: Messages::default() }
    }
}

/// The form and what follows the name (`+proto`, parameters) of a gRPC-Web type.
fn split(content_type: &[u8]) -> Option<(bool, &[u8])> {
    for (name, text) in [(&b"application/grpc-web-text"[..], true), (b"application/grpc-web", false)] {
        let Some(start) = content_type.get(..name.len()) else { continue };
        let rest = &content_type[name.len()..];
        if start.eq_ignore_ascii_case(name) && matches!(rest.trim_ascii_start(), [] | [b'+' | b';', ..]) {
            return Some((text, rest));
        }
    }
    None
}

/// A request's body on its way to plain gRPC.
#[derive(Clone, Debug)]
pub struct Reader {
    text: bool,
    carry: [u8; 4],
    held: u8,
}

impl Reader {
    /// Appends the gRPC bytes of the next piece. White space between quartets is none of base64 here.
    pub fn write(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), NotBase64> {
        if !self.text {
            out.extend_from_slice(input);
            return Ok(());
        }
        let mut rest = input;
        if self.held > 0 {
            let taken = usize::from(4 - self.held).min(rest.len());
            self.carry[usize::from(self.held)..][..taken].copy_from_slice(&rest[..taken]);
            self.held += taken as u8;
            rest = &rest[taken..];
            if self.held < 4 {
                return Ok(());
            }
            self.held = 0;
            decode(&self.carry, out)?;
        }
        let whole = rest.len() / 4 * 4;
        let (quartets, over) = rest.split_at(whole);
        self.carry[..over.len()].copy_from_slice(over);
        self.held = over.len() as u8;
        decode(quartets, out)
    }

    /// The body is complete: an error if a quartet is not.
    pub fn finish(&self) -> Result<(), NotBase64> {
        if self.held == 0 {
            Ok(())
        } else {
            Err(NotBase64)
        }
    }
}

/// Whole quartets, any of which may end a padded piece.
fn decode(mut quartets: &[u8], out: &mut Vec<u8>) -> Result<(), NotBase64> {
    while !quartets.is_empty() {
        let end = match quartets.iter().position(|&b| b == b'=') {
            Some(pad) => (pad / 4 + 1) * 4,
            None => quartets.len(),
        };
        let (piece, rest) = quartets.split_at(end.min(quartets.len()));
        STANDARD.decode_vec(piece, out).map_err(|_| NotBase64)?;
        quartets = rest;
    }
    Ok(())
}

/// An answer's body on its way to the browser.
#[derive(Clone, Debug)]
pub struct Writer {
    text: bool,
    /// Bytes that do not make a quartet yet.
    carry: [u8; 2],
    held: u8,
    messages: Messages,
}

impl Writer {
    /// Appends what a piece of the gRPC body becomes. In text form up to two bytes wait for the next piece or
    /// [`Writer::flush`].
    pub fn write(&mut self, input: &[u8], out: &mut Vec<u8>) {
        self.messages.take(input);
        self.encode(input, out);
    }

    /// Appends what waits, padded. Call it when a piece will not be followed by another one at once.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        base64(&self.carry[..usize::from(std::mem::take(&mut self.held))], out);
    }

    /// The call is over: appends the frame of its trailers and everything that waits. False, and nothing
    /// appended, when a message was cut: then only a broken connection tells the truth.
    pub fn finish(&mut self, trailers: &Fields, out: &mut Vec<u8>) -> bool {
        if !self.messages.between() {
            return false;
        }
        let mut frame = vec![TRAILERS, 0, 0, 0, 0];
        for (_, name, value) in trailers.iter() {
            frame.extend(name.iter().map(u8::to_ascii_lowercase));
            frame.extend_from_slice(b": ");
            frame.extend_from_slice(value);
            frame.extend_from_slice(b"\r\n");
        }
        let Ok(length) = u32::try_from(frame.len() - 5) else { return false };
        frame[1..5].copy_from_slice(&length.to_be_bytes());
        self.encode(&frame, out);
        self.flush(out);
        true
    }

    fn encode(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        if !self.text {
            return out.extend_from_slice(input);
        }
        if self.held > 0 {
            let held = usize::from(self.held);
            if held + input.len() < 3 {
                self.carry[held..held + input.len()].copy_from_slice(input);
                self.held += input.len() as u8;
                return;
            }
            let (head, rest) = input.split_at(3 - held);
            let mut triple = [0; 3];
            triple[..held].copy_from_slice(&self.carry[..held]);
            triple[held..].copy_from_slice(head);
            self.held = 0;
            base64(&triple, out);
            input = rest;
        }
        let (triples, over) = input.split_at(input.len() / 3 * 3);
        base64(triples, out);
        self.carry[..over.len()].copy_from_slice(over);
        self.held = over.len() as u8;
    }
}

fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    // The room is exact; an error would leave the zeros, which no decoder takes for base64.
    let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
}

#[cfg(test)]
#[path = "web_tests.rs"]
mod tests;

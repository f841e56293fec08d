//! How an input is cut into reads: in one piece, at every byte, and at places that its own bytes choose.

/// Ways in which one input is tried.
#[derive(Clone, Copy, Debug)]
pub enum Split {
    Whole,
    EveryByte,
    Chosen,
}

pub const SPLITS: [Split; 3] = [Split::Whole, Split::EveryByte, Split::Chosen];

impl Split {
    /// The pieces of `data` in order; none is empty.
    pub fn pieces(self, data: &[u8]) -> Vec<&[u8]> {
        match self {
            Split::Whole => data.chunks(data.len().max(1)).collect(),
            Split::EveryByte => data.chunks(1).collect(),
            Split::Chosen => chosen(data),
        }
    }
}

fn chosen(data: &[u8]) -> Vec<&[u8]> {
    // FNV-1a over all bytes, then xorshift from piece to piece.
    let mut state =
        data.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    let (mut pieces, mut rest) = (Vec::new(), data);
    while !rest.is_empty() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let (piece, after) = rest.split_at((1 + state % 23).min(rest.len() as u64) as usize);
        pieces.push(piece);
        rest = after;
    }
    pieces
}

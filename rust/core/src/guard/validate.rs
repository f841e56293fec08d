//! What a match must satisfy besides its shape: check digits, entropy, not being a placeholder.
//!
//! Each check is the published algorithm of the number it is named after, over the significant characters of
//! the match; separators do not count. A check that knows the length refuses every other.

use super::pack::Validate;
use crate::error::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Known checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Checksum {
    /// Luhn, mod 10 (ISO/IEC 7812-1): cards, IMEI.
    Luhn,
    /// IBAN (ISO 13616, mod 97).
    Iban,
    /// US bank routing number.
    Aba,
    /// US social security number: areas, groups and serials that are never issued.
    Ssn,
    /// US national provider identifier (Luhn behind 80840).
    Npi,
    /// UK National Health Service number (mod 11).
    Nhs,
    /// Canadian social insurance number (Luhn, first digit issued).
    Sin,
    /// Brazilian CPF (natural persons).
    Cpf,
    /// Brazilian CNPJ (companies).
    Cnpj,
    /// Polish PESEL.
    Pesel,
    /// Spanish DNI and NIE.
    SpanishId,
    /// Indian Aadhaar (Verhoeff).
    Aadhaar,
    /// Australian tax file number.
    Tfn,
    /// Australian business number.
    Abn,
    /// Australian Medicare card.
    Medicare,
    /// German tax identification number (ISO 7064 mod 11,10).
    GermanTaxId,
    /// Dutch BSN (11-test).
    Bsn,
    /// French NIR (social security, mod 97).
    Nir,
    /// Italian codice fiscale.
    CodiceFiscale,
    /// Swedish personnummer (Luhn over the last ten digits).
    Personnummer,
    /// Finnish henkilötunnus.
    Hetu,
    /// Belgian national register number (mod 97).
    BelgianId,
    /// Turkish identity number.
    TurkishId,
    /// South Korean resident registration number.
    Rrn,
    /// Singaporean NRIC and FIN.
    Nric,
    /// Chinese resident identity number (ISO 7064 mod 11-2).
    ChineseId,
    /// Japanese individual number.
    MyNumber,
    /// Argentine CUIT and CUIL.
    Cuit,
    /// Chilean RUT.
    Rut,
    /// Vehicle identification number (ISO 3779, North American check digit).
    Vin,
    /// Machine-readable zone line 2 of a passport (ICAO 9303).
    Mrz,
    /// Bitcoin address, Base58Check.
    Base58check,
}

/// The compiled form of [`Validate`].
#[derive(Clone, Debug, Default)]
pub(super) struct Validator {
    checksum: Option<Checksum>,
    entropy: f64,
    exclude: Vec<Box<[u8]>>,
}

impl Validator {
    /// Problems carry the key below the rule.
    pub fn new(spec: Option<&Validate>) -> Result<Validator, Problem> {
        let Some(spec) = spec else { return Ok(Validator::default()) };
        let entropy = spec.entropy.unwrap_or(0.0);
        if !(0.0..=8.0).contains(&entropy) {
            return Err(Problem::new("validate.entropy", format!("{entropy} cannot be reached by bytes"))
                .expected("0.0 to 8.0 bits per byte"));
        }
        if spec.exclude.iter().any(|word| word.is_empty()) {
            return Err(Problem::new("validate.exclude", "an empty word is in every match").expected("words"));
        }
        let exclude = spec.exclude.iter().map(|word| word.to_ascii_lowercase().into_bytes().into()).collect();
        Ok(Validator { checksum: spec.checksum, entropy, exclude })
    }

    pub fn accepts(&self, matched: &[u8]) -> bool {
        self.checksum.is_none_or(|checksum| checksum.accepts(matched))
            && (self.entropy == 0.0 || entropy(matched) >= self.entropy)
            && (self.exclude.is_empty() || {
                let lower = matched.to_ascii_lowercase();
                !self.exclude.iter().any(|word| memchr::memmem::find(&lower, word).is_some())
            })
    }
}

/// Shannon entropy in bits per byte.
fn entropy(text: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    for &byte in text {
        counts[usize::from(byte)] += 1;
    }
    let total = text.len() as f64;
    counts.iter().filter(|&&n| n > 0).map(|&n| f64::from(n) / total).map(|p| -p * p.log2()).sum()
}

impl Checksum {
    /// Whether `text` carries the right check.
    pub fn accepts(self, text: &[u8]) -> bool {
        let characters: Vec<u8> =
            text.iter().filter(|b| b.is_ascii_alphanumeric()).map(u8::to_ascii_uppercase).collect();
        let digits: Vec<u32> = text.iter().filter(|b| b.is_ascii_digit()).map(|b| u32::from(b - b'0')).collect();
        match self {
            Checksum::Luhn => digits.len() >= 8 && !uniform(&digits) && luhn(&digits),
            Checksum::Iban => iban(&characters),
            Checksum::Aba => {
                digits.len() == 9
                    && digits.iter().any(|&d| d != 0)
                    && weighted(&digits, &[3, 7, 1, 3, 7, 1, 3, 7, 1]).is_multiple_of(10)
            }
            Checksum::Ssn => ssn(&digits),
            Checksum::Npi => {
                digits.len() == 10
                    && luhn(&[&[8, 0, 8, 4, 0], digits.as_slice()].concat())
                    && matches!(digits[0], 1 | 2)
            }
            Checksum::Nhs => {
                digits.len() == 10 && !uniform(&digits) && {
                    let check = 11 - weighted(&digits, &[10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11;
                    check != 10 && check % 11 == digits[9]
                }
            }
            Checksum::Sin => digits.len() == 9 && !matches!(digits[0], 0 | 8) && luhn(&digits),
            Checksum::Cpf => digits.len() == 11 && !uniform(&digits) && mod11_pair(&digits, 11, 12),
            Checksum::Cnpj => digits.len() == 14 && !uniform(&digits) && mod11_pair(&digits, 9, 9),
            Checksum::Pesel => {
                digits.len() == 11
                    && !uniform(&digits)
                    && weighted(&digits, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]).is_multiple_of(10)
                    && (1..=12).contains(&((digits[2] * 10 + digits[3]) % 20))
                    && (1..=31).contains(&(digits[4] * 10 + digits[5]))
            }
            Checksum::SpanishId => spanish_id(&characters),
            Checksum::Aadhaar => digits.len() == 12 && digits[0] >= 2 && !uniform(&digits) && verhoeff(&digits),
            Checksum::Tfn => {
                digits.len() == 9
                    && !uniform(&digits)
                    && weighted(&digits, &[1, 4, 3, 7, 5, 8, 6, 9, 10]).is_multiple_of(11)
            }
            Checksum::Abn => {
                digits.len() == 11 && digits[0] > 0 && {
                    let sum = weighted(&digits, &[10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19]) - 10;
                    sum.is_multiple_of(89)
                }
            }
            Checksum::Medicare => {
                matches!(digits.len(), 10 | 11)
                    && (2..=6).contains(&digits[0])
                    && weighted(&digits, &[1, 3, 7, 9, 1, 3, 7, 9]) % 10 == digits[8]
            }
            Checksum::GermanTaxId => german_tax_id(&digits),
            Checksum::Bsn => {
                digits.len() == 9 && digits.iter().any(|&d| d != 0) && {
                    let sum = weighted(&digits, &[9, 8, 7, 6, 5, 4, 3, 2]);
                    sum >= digits[8] && (sum - digits[8]).is_multiple_of(11)
                }
            }
            Checksum::Nir => nir(&characters),
            Checksum::CodiceFiscale => codice_fiscale(&characters),
            Checksum::Personnummer => {
                let ten = digits.len().checked_sub(10).map(|from| &digits[from..]);
                matches!(digits.len(), 10 | 12)
                    && ten.is_some_and(|ten| {
                        luhn(ten)
                            && (1..=12).contains(&(ten[2] * 10 + ten[3]))
                            && (1..=91).contains(&(ten[4] * 10 + ten[5]))
                    })
            }
            Checksum::Hetu => {
                characters.len() >= 10 && {
                    // DDMMYY, century sign (which may itself be a letter), three digits, check.
                    let check = characters[characters.len() - 1];
                    let nine = digits.iter().take(9).fold(0, |n, d| n * 10 + d);
                    digits.len() >= 9 && b"0123456789ABCDEFHJKLMNPRSTUVWXY"[nine as usize % 31] == check
                }
            }
            Checksum::BelgianId => {
                digits.len() == 11 && {
                    let nine = number(&digits[..9]);
                    let check = number(&digits[9..]);
                    97 - nine % 97 == check || 97 - (2_000_000_000 + nine) % 97 == check
                }
            }
            Checksum::TurkishId => {
                digits.len() == 11 && digits[0] != 0 && {
                    let odd: u32 = digits[..9].iter().step_by(2).sum();
                    let even: u32 = digits[1..8].iter().step_by(2).sum();
                    (odd * 7 + 90 - even) % 10 == digits[9] && digits[..10].iter().sum::<u32>() % 10 == digits[10]
                }
            }
            Checksum::Rrn => {
                digits.len() == 13
                    && (1..=12).contains(&(digits[2] * 10 + digits[3]))
                    && (11 - weighted(&digits, &[2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5]) % 11) % 10 == digits[12]
            }
            Checksum::Nric => nric(&characters),
            Checksum::ChineseId => chinese_id(&characters),
            Checksum::MyNumber => {
                digits.len() == 12 && !uniform(&digits) && {
                    let rest = weighted(&digits, &[6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2]) % 11;
                    digits[11] == if rest <= 1 { 0 } else { 11 - rest }
                }
            }
            Checksum::Cuit => {
                digits.len() == 11 && {
                    let check = 11 - weighted(&digits, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2]) % 11;
                    check != 10 && check % 11 == digits[10]
                }
            }
            Checksum::Rut => rut(&characters),
            Checksum::Vin => vin(&characters),
            Checksum::Mrz => mrz(text),
            Checksum::Base58check => base58check(text),
        }
    }
}

/// Sum of products; digits beyond the weights do not count.
fn weighted(digits: &[u32], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(d, w)| d * w).sum()
}

fn number(digits: &[u32]) -> u64 {
    digits.iter().fold(0, |n, &d| n * 10 + u64::from(d))
}

/// All digits the same: valid under many checks, issued under none.
fn uniform(digits: &[u32]) -> bool {
    digits.windows(2).all(|pair| pair[0] == pair[1])
}

fn luhn(digits: &[u32]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, &d)| match (i % 2, d * 2) {
            (0, _) => d,
            (_, twice) => twice / 10 + twice % 10,
        })
        .sum();
    sum.is_multiple_of(10)
}

fn mod97(characters: impl Iterator<Item = u8>) -> u32 {
    characters.fold(0, |rest, c| match c {
        b'0'..=b'9' => (rest * 10 + u32::from(c - b'0')) % 97,
        _ => (rest * 100 + u32::from(c.to_ascii_uppercase().wrapping_sub(b'A')) + 10) % 97,
    })
}

/// Lengths per country, from the SWIFT IBAN registry.
const IBAN_LENGTHS: &[(&[u8; 2], usize)] = &[
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NL", 18),
    (b"NO", 15),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"SA", 24),
    (b"SC", 31),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
];

fn iban(characters: &[u8]) -> bool {
    let Some((country, _)) = characters.split_first_chunk::<2>() else { return false };
    IBAN_LENGTHS.iter().any(|(code, length)| *code == country && *length == characters.len())
        && mod97(characters[4..].iter().chain(&characters[..4]).copied()) == 1
}

fn ssn(digits: &[u32]) -> bool {
    if digits.len() != 9 {
        return false;
    }
    let (area, group, serial) = (number(&digits[..3]), number(&digits[3..5]), number(&digits[5..]));
    // 078-05-1120 and 219-09-9999 were printed in advertisements and never belonged to a person since.
    let printed = [(78, 5, 1120), (219, 9, 9999)].contains(&(area, group, serial));
    area != 0 && area != 666 && area < 900 && group != 0 && serial != 0 && !printed && !uniform(digits)
}

/// Two check digits, weights counting down to 2 and, from `top` on, starting over at `restart` in the second.
fn mod11_pair(digits: &[u32], top: u32, restart: u32) -> bool {
    let body = digits.len() - 2;
    let check = |upto: usize, top: u32| {
        // Weights from the right: 2, 3, … `top`, then 2 again.
        let sum: u32 = digits[..upto].iter().rev().enumerate().map(|(i, d)| d * (2 + i as u32 % (top - 1))).sum();
        match sum % 11 {
            0 | 1 => 0,
            rest => 11 - rest,
        }
    };
    check(body, top) == digits[body] && check(body + 1, restart) == digits[body + 1]
}

fn spanish_id(characters: &[u8]) -> bool {
    let [first, middle @ .., letter] = characters else { return false };
    if middle.len() != 7 || !middle.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let lead = match first {
        b'X' | b'0' => 0,
        b'Y' | b'1' => 1,
        b'Z' | b'2' => 2,
        b'3'..=b'9' => u32::from(first - b'0'),
        _ => return false,
    };
    let value = middle.iter().fold(lead, |n, d| n * 10 + u32::from(d - b'0'));
    b"TRWAGMYFPDXBNJZSQVHLCKE"[value as usize % 23] == *letter
}

/// Dihedral group D5 (Verhoeff 1969).
fn verhoeff(digits: &[u32]) -> bool {
    const PRODUCT: [[u8; 10]; 10] = [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        [1, 2, 3, 4, 0, 6, 7, 8, 9, 5],
        [2, 3, 4, 0, 1, 7, 8, 9, 5, 6],
        [3, 4, 0, 1, 2, 8, 9, 5, 6, 7],
        [4, 0, 1, 2, 3, 9, 5, 6, 7, 8],
        [5, 9, 8, 7, 6, 0, 4, 3, 2, 1],
        [6, 5, 9, 8, 7, 1, 0, 4, 3, 2],
        [7, 6, 5, 9, 8, 2, 1, 0, 4, 3],
        [8, 7, 6, 5, 9, 3, 2, 1, 0, 4],
        [9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
    ];
    const PERMUTATION: [[u8; 10]; 8] = [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        [1, 5, 7, 6, 2, 8, 3, 0, 9, 4],
        [5, 8, 0, 3, 7, 9, 6, 1, 4, 2],
        [8, 9, 1, 6, 0, 4, 3, 5, 2, 7],
        [9, 4, 5, 3, 1, 2, 6, 8, 7, 0],
        [4, 2, 8, 6, 5, 7, 3, 9, 0, 1],
        [2, 7, 9, 3, 8, 0, 6, 4, 1, 5],
        [7, 0, 4, 6, 9, 1, 3, 2, 5, 8],
    ];
    digits
        .iter()
        .rev()
        .enumerate()
        .fold(0u8, |state, (i, &digit)| PRODUCT[usize::from(state)][usize::from(PERMUTATION[i % 8][digit as usize])])
        == 0
}

fn german_tax_id(digits: &[u32]) -> bool {
    if digits.len() != 11 || digits[0] == 0 {
        return false;
    }
    // Of the first ten digits exactly one appears twice or three times.
    let repeated: Vec<usize> =
        (0..10).map(|d| digits[..10].iter().filter(|&&x| x == d).count()).filter(|&n| n > 1).collect();
    if repeated.len() != 1 || repeated[0] > 3 {
        return false;
    }
    let product = digits[..10].iter().fold(10, |product, &digit| {
        let sum = (digit + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    (11 - product) % 10 == digits[10]
}

fn nir(characters: &[u8]) -> bool {
    if characters.len() != 15 {
        return false;
    }
    // Corsica: 2A counts as 19, 2B as 18.
    let mut body: Vec<u8> = characters[..13].to_vec();
    match &characters[5..7] {
        b"2A" => body[5..7].copy_from_slice(b"19"),
        b"2B" => body[5..7].copy_from_slice(b"18"),
        _ => {}
    }
    let read =
        |text: &[u8]| text.iter().try_fold(0u64, |n, c| c.is_ascii_digit().then(|| n * 10 + u64::from(c - b'0')));
    matches!((read(&body), read(&characters[13..])), (Some(body), Some(check)) if 97 - body % 97 == check)
}

fn codice_fiscale(characters: &[u8]) -> bool {
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    if characters.len() != 16 {
        return false;
    }
    let rank = |c: u8| if c.is_ascii_digit() { c - b'0' } else { c - b'A' };
    let sum: u32 = characters[..15]
        .iter()
        .enumerate()
        .map(|(i, &c)| if i % 2 == 0 { ODD[usize::from(rank(c)) % 26] } else { u32::from(rank(c)) })
        .sum();
    characters[15] == b'A' + (sum % 26) as u8
}

fn nric(characters: &[u8]) -> bool {
    if characters.len() != 9 || !characters[1..8].iter().all(u8::is_ascii_digit) {
        return false;
    }
    let digits: Vec<u32> = characters[1..8].iter().map(|c| u32::from(c - b'0')).collect();
    let sum = weighted(&digits, &[2, 7, 6, 5, 4, 3, 2]);
    let (offset, letters) = match characters[0] {
        b'S' => (0, b"JZIHGFEDCBA"),
        b'T' => (4, b"JZIHGFEDCBA"),
        b'F' => (0, b"XWUTRQPNMLK"),
        b'G' => (4, b"XWUTRQPNMLK"),
        _ => return false,
    };
    letters[(sum + offset) as usize % 11] == characters[8]
}

fn chinese_id(characters: &[u8]) -> bool {
    let Some((check, body)) = characters.split_last().filter(|(_, body)| body.len() == 17) else { return false };
    let weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let digits: Vec<u32> = body.iter().filter(|c| c.is_ascii_digit()).map(|c| u32::from(c - b'0')).collect();
    digits.len() == 17 && b"10X98765432"[weighted(&digits, &weights) as usize % 11] == *check
}

fn rut(characters: &[u8]) -> bool {
    let Some((check, body)) = characters.split_last().filter(|(_, body)| body.len() >= 6) else { return false };
    if !body.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let sum: usize = body.iter().rev().enumerate().map(|(i, c)| usize::from(c - b'0') * (2 + i % 6)).sum();
    b"0123456789K0"[11 - sum % 11] == *check
}

fn vin(characters: &[u8]) -> bool {
    const WEIGHTS: [u32; 17] = [8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2];
    if characters.len() != 17 || characters.windows(2).all(|pair| pair[0] == pair[1]) {
        return false;
    }
    let value = |c: u8| match c {
        b'0'..=b'9' => Some(u32::from(c - b'0')),
        b'A'..=b'H' => Some(u32::from(c - b'A') + 1),
        b'J'..=b'N' => Some(u32::from(c - b'J') + 1),
        b'P' => Some(7),
        b'R' => Some(9),
        b'S'..=b'Z' => Some(u32::from(c - b'S') + 2),
        _ => None,
    };
    let sum = characters.iter().zip(WEIGHTS).try_fold(0, |sum, (&c, weight)| Some(sum + value(c)? * weight));
    sum.is_some_and(|sum| characters[8] == b"0123456789X"[sum as usize % 11])
}

/// The check digits of number, birth date and expiry date.
fn mrz(line: &[u8]) -> bool {
    let value = |c: u8| match c {
        b'0'..=b'9' => u32::from(c - b'0'),
        b'A'..=b'Z' => u32::from(c - b'A') + 10,
        _ => 0,
    };
    let check = |field: &[u8]| {
        let sum: u32 = field.iter().zip([7, 3, 1].into_iter().cycle()).map(|(&c, w)| value(c) * w).sum();
        b'0' + (sum % 10) as u8
    };
    line.len() == 44
        && check(&line[..9]) == line[9]
        && check(&line[13..19]) == line[19]
        && check(&line[21..27]) == line[27]
}

fn base58check(text: &[u8]) -> bool {
    use sha2::{Digest, Sha256};
    const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut bytes = [0u8; 25];
    for &c in text {
        let Some(digit) = ALPHABET.iter().position(|&known| known == c) else { return false };
        let mut carry = digit;
        for byte in bytes.iter_mut().rev() {
            carry += usize::from(*byte) * 58;
            *byte = carry as u8;
            carry >>= 8;
        }
        if carry != 0 {
            return false;
        }
    }
    let (body, check) = bytes.split_at(21);
    Sha256::digest(Sha256::digest(body))[..4] == *check
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_numbers_pass_and_every_other_last_character_fails() {
        for (checksum, number) in [
            (Checksum::Luhn, "4111 1111 1111 1111"),
            (Checksum::Luhn, "378282246310005"),
            (Checksum::Iban, "GB82 WEST 1234 5698 7654 32"),
            (Checksum::Iban, "NO93 8601 1117 947"),
            (Checksum::Aba, "021000021"),
            (Checksum::Npi, "1234567893"),
            (Checksum::Nhs, "943 476 5919"),
            (Checksum::Sin, "130 692 544"),
            (Checksum::Cpf, "529.982.247-25"),
            (Checksum::Cnpj, "11.222.333/0001-81"),
            (Checksum::Pesel, "44051401359"),
            (Checksum::SpanishId, "12345678Z"),
            (Checksum::SpanishId, "X1234567L"),
            (Checksum::Aadhaar, "2345 6789 0124"),
            (Checksum::Tfn, "123 456 782"),
            (Checksum::Abn, "51 824 753 556"),
            (Checksum::GermanTaxId, "86 095 742 719"),
            (Checksum::Bsn, "111222333"),
            (Checksum::Nir, "2 69 05 49 588 157 80"),
            (Checksum::CodiceFiscale, "RSSMRA85T10A562S"),
            (Checksum::Personnummer, "811228-9874"),
            (Checksum::Hetu, "131052-308T"),
            (Checksum::BelgianId, "85.07.30-033.28"),
            (Checksum::TurkishId, "10000000146"),
            (Checksum::Rrn, "900101-1234568"),
            (Checksum::Nric, "S1234567D"),
            (Checksum::ChineseId, "11010519491231002X"),
            (Checksum::MyNumber, "123456789018"),
            (Checksum::Cuit, "20-12345678-6"),
            (Checksum::Rut, "12.345.678-5"),
            (Checksum::Mrz, "L898902C36UTO7408122F1204159ZE184226B<<<<<10"),
            (Checksum::Base58check, "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
        ] {
            assert!(checksum.accepts(number.as_bytes()), "{checksum:?} {number}");
            assert!(!checksum.accepts(&number.as_bytes()[..number.len() - 1]), "{checksum:?} {number} cut");
            if checksum == Checksum::Mrz {
                continue;
            }
            let (last, rest) = number.as_bytes().split_last().unwrap();
            let others = if last.is_ascii_digit() { b'0'..=b'9' } else { b'A'..=b'Z' };
            for other in others.filter(|other| other != last) {
                let changed = [rest, &[other]].concat();
                assert!(!checksum.accepts(&changed), "{checksum:?} {}", String::from_utf8_lossy(&changed));
            }
        }
    }

    #[test]
    fn numbers_that_are_never_issued_fail() {
        for (checksum, number) in [
            (Checksum::Luhn, "0000000000000000"),
            (Checksum::Ssn, "000-12-3456"),
            (Checksum::Ssn, "666-12-3456"),
            (Checksum::Ssn, "900-12-3456"),
            (Checksum::Ssn, "123-00-3456"),
            (Checksum::Ssn, "078-05-1120"),
            (Checksum::Sin, "046 454 286"),
            (Checksum::Cpf, "111.111.111-11"),
            (Checksum::Iban, "XX82WEST12345698765432"),
            (Checksum::Vin, "11111111111111111"),
        ] {
            assert!(!checksum.accepts(number.as_bytes()), "{checksum:?} {number}");
        }
        assert!(Checksum::Ssn.accepts(b"536-22-1234"));
        assert!(Checksum::Vin.accepts(b"1M8GDM9AXKP042788"));
        assert!(!Checksum::Vin.accepts(b"1M8GDM9A1KP042788"));
        assert!(Checksum::Medicare.accepts(b"2123 45670 1") && !Checksum::Medicare.accepts(b"2123 45671 1"));
        assert!(Checksum::Mrz.accepts(b"L898902C36UTO7408122F1204159ZE184226B<<<<<10"));
        assert!(!Checksum::Mrz.accepts(b"L898902C37UTO7408122F1204159ZE184226B<<<<<10"));
    }

    #[test]
    fn entropy_and_placeholders() {
        let spec = Validate { checksum: None, entropy: Some(3.0), exclude: vec!["Example".into()] };
        let validator = Validator::new(Some(&spec)).unwrap();
        assert!(validator.accepts(b"q8Zr2LkP0sVx"));
        assert!(!validator.accepts(b"aaaaaaaabbbb"));
        assert!(!validator.accepts(b"q8Zr2LkEXAMPLE"));
        let wrong = Validate { entropy: Some(9.0), ..Validate::default() };
        assert_eq!(Validator::new(Some(&wrong)).unwrap_err().path, "validate.entropy");
    }
}

//! Base64 as tmkms reads it, into memory that is wiped.

use zeroize::Zeroizing;

/// Decodes as tmkms does (run with 0.10.1 to 0.15.0): in fours, the last of which ends at its first `=` or at the text's
/// end.
pub(crate) fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = text.as_bytes();
    let tail = bytes.len().saturating_sub(1) / 4 * 4;
    let last = bytes[tail..]
        .split(|b| *b == b'=')
        .next()
        .unwrap_or_default();
    if last.len() == 1 || (last.is_empty() && !bytes.is_empty()) {
        return None;
    }
    let mut key = Zeroizing::new(Vec::with_capacity(text.len() / 4 * 3 + 3));
    for four in bytes[..tail].chunks(4).chain([last]) {
        let mut bits = 0u32;
        for at in 0..4 {
            bits = bits << 6 | u32::from(six(four.get(at).copied().unwrap_or(b'A'))?);
        }
        let [_, first, second, third] = bits.to_be_bytes();
        key.extend(&[first, second, third][..four.len().saturating_sub(1)]);
    }
    Some(key)
}

fn six(digit: u8) -> Option<u8> {
    Some(match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

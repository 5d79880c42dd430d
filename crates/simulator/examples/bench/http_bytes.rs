//! As much of HTTP/1.1 as two ends of one bench need, which know each other: no foreign input arrives here.

/// Where `needle` begins.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// The length of a head, its blank line included, when all of it has arrived.
pub fn head_length(bytes: &[u8]) -> Option<usize> {
    find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

/// The declared length of the body; 0 without a declaration.
pub fn content_length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"\r\ncontent-length:";
    let Some(at) = head
        .windows(NAME.len())
        .position(|window| window.eq_ignore_ascii_case(NAME))
    else {
        return 0;
    };
    head[at + NAME.len()..]
        .iter()
        .skip_while(|byte| **byte == b' ')
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0, |length, digit| length * 10 + usize::from(digit - b'0'))
}

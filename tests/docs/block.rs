//! The code blocks of a page.

/// What stands between two fences.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block<'a> {
    /// Behind the first fence; empty for pictures.
    pub(super) language: &'a str,
    pub(super) text: &'a str,
}

/// The blocks of a page, in order.
pub(super) fn blocks(page: &str) -> impl Iterator<Item = Block<'_>> {
    let parts: Vec<&str> = page.split("```").collect();
    assert!(parts.len() % 2 == 1, "a fence is open at the end");
    let inside = parts.into_iter().skip(1).step_by(2);
    inside.map(|part| {
        let (language, text) = part.split_once('\n').expect("a fence is a line");
        Block { language, text }
    })
}

#[test]
fn a_block_is_what_stands_between_fences() {
    let page = "a `b`\n```sh\nls\n```\nc\n```\npicture\n```\n";
    let found: Vec<_> = blocks(page).collect();
    assert_eq!(
        found,
        [Block { language: "sh", text: "ls\n" }, Block { language: "", text: "picture\n" }]
    );
}

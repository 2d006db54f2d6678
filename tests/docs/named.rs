//! The tests that a page names, in backquotes: `module::test`, or a module of them. They are those of
//! `tests/`; a path before the first `::` leads elsewhere (`inbox/src::id::…`).

use super::repository;

/// What stands in backquotes on a page, in order.
pub(super) fn quoted(page: &str) -> impl Iterator<Item = &str> {
    page.split('`').skip(1).step_by(2)
}

/// Whether there is a test of this name; `None` for what is no name of a test.
pub(super) fn is_test(name: &str) -> Option<bool> {
    // A command is no name.
    let (module, test) = name.rsplit_once("::").filter(|_| !name.contains(' '))?;
    let module = match module.split_once("::") {
        Some((path, module)) if path.contains('/') => {
            repository().join(path).join(module.replace("::", "/"))
        }
        _ if module.contains('/') => repository().join(module),
        _ => repository().join("tests").join(module.replace("::", "/")),
    };
    let is_module = module.join(test).with_extension("rs").exists();
    let source = std::fs::read_to_string(module.with_extension("rs")).unwrap_or_default();
    Some(is_module || source.contains(&format!("fn {test}(")))
}

#[test]
fn a_test_is_found_where_its_name_says() {
    assert_eq!(is_test("docs::named::a_test_is_found_where_its_name_says"), Some(true));
    assert_eq!(is_test("docs::named"), Some(true));
    assert_eq!(is_test("inbox/src::id::only_version_7_carries_a_day"), Some(true));
    assert_eq!(is_test("docs::named::nothing"), Some(false));
    assert_eq!(is_test("inbox/src::id::nothing"), Some(false));
    assert_eq!(is_test("./dev test a::b"), None);
}

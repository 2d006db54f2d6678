//! Every link from one page of the repository to another leads somewhere.

use std::fs;
use std::path::{Path, PathBuf};

use super::{pages, repository};

#[test]
fn every_link_leads_to_a_page_and_a_heading() {
    let mut followed = 0;
    let examples = ["examples/python", "examples/node"].map(|folder| repository().join(folder));
    for page in pages().into_iter().chain(examples.map(|folder| folder.join("README.md"))) {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text).filter(|link| !link.contains("://")) {
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => page.clone(),
                path => page.parent().unwrap().join(path),
            };
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
            assert!(
                heading.is_empty() || headings(&target).iter().any(|known| known == heading),
                "{}: {link} is no heading",
                page.display()
            );
            followed += 1;
        }
    }
    assert!(followed > 60, "only {followed} links were found");
}

/// The addresses of a page's links.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0))
}

/// By what the headings of a page are linked to.
fn headings(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap();
    let slug = |heading: &str| -> String {
        let kept = |c: char| c.is_alphanumeric() || " -_".contains(c);
        heading.to_lowercase().chars().filter(|c| kept(*c)).collect::<String>().replace(' ', "-")
    };
    text.lines()
        .filter_map(|line| Some(slug(line.strip_prefix('#')?.trim_start_matches('#').trim())))
        .collect()
}

#[test]
fn a_link_is_found_and_a_heading_has_its_address() {
    let found: Vec<_> = links("[a](b.md#c) and `d` [e](https://f)").collect();
    assert_eq!(found, ["b.md#c", "https://f"]);
    let page: PathBuf = repository().join("docs/idempotency-http.md");
    assert!(headings(&page).contains(&"idempotency-key-for-http".to_owned()));
}

//! How a verdict prints.

use crate::support::proof::Verdict;
use crate::support::proof::control::Mistake;

pub(crate) fn control(mistake: Mistake, caught: bool) {
    let word = if caught { "caught" } else { "NOT CAUGHT" };
    println!("control  {:<22} {word:<11} {}", mistake.name(), mistake.about());
}

pub(crate) fn print(verdict: &Verdict) {
    println!("\n{:<52} {:>9}", "what happened", "times");
    for (what, times) in &verdict.happened {
        println!("{what:<52} {times:>9}");
    }
    println!("\n{:<52} {:>9} {:>9}", "what there must be", "expected", "found");
    for line in &verdict.lines {
        let word = if line.holds() { "" } else { "  WRONG" };
        println!("{:<52} {:>9} {:>9}{word}", line.what, line.expected, line.found);
    }
    for problem in &verdict.problems {
        println!("WRONG: {problem}");
    }
    let word = if verdict.holds() { "proved" } else { "NOT PROVED" };
    println!("\n{word}: doing it twice has the effect of doing it once");
}

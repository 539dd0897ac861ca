//! Names of layers in fewer characters than they have, still told apart.

use std::collections::HashSet;

const LEFT_OUT: char = '\u{2026}';
/// Times the characters that are to be kept, at most; names that are alike for longer stay whole.
const WIDER: usize = 4;

/// The texts in at most `keep` characters each, or in as many more as it takes to leave different ones different. Left out is the
/// middle of a long text, or what all long ones begin or end with and then the middle.
pub(crate) fn shortened(texts: &[String], keep: usize) -> Vec<String> {
    let characters: Vec<Vec<char>> = texts.iter().map(|t| t.chars().collect()).collect();
    let longest = characters.iter().map(Vec::len).max().unwrap_or(0);
    let long: Vec<&[char]> = characters.iter().map(Vec::as_slice).filter(|t| t.len() > keep).collect();
    let (head, tail) = common(&long);
    let different = texts.iter().collect::<HashSet<_>>().len();
    for keep in keep..longest.min(WIDER * keep) {
        for (head, tail) in [(0, 0), (head, 0), (head, tail)] {
            let one = |t: &Vec<char>| {
                if t.len() > keep { without(t, head, tail, keep) } else { t.iter().collect() }
            };
            let found: Vec<String> = characters.iter().map(one).collect();
            if found.iter().collect::<HashSet<_>>().len() == different {
                return found;
            }
        }
    }
    texts.to_vec()
}

/// Characters that all texts begin with, up to a separator and with it, and that they end with, from a separator.
fn common(texts: &[&[char]]) -> (usize, usize) {
    let Some((first, others)) = texts.split_first() else { return (0, 0) };
    let separates = |c: char| matches!(c, '.' | '/' | ':' | '_');
    let shares = |i: &usize| others.iter().all(|t| t.get(*i) == Some(&first[*i]));
    let alike = (0..first.len()).take_while(shares).count();
    let head = first[..alike].iter().rposition(|&c| separates(c)).map_or(0, |i| i + 1);
    let shares = |i: &usize| others.iter().all(|t| t.iter().rev().nth(*i) == first.iter().rev().nth(*i));
    let alike = (0..first.len()).take_while(shares).count();
    let tail = first.len() - alike;
    let tail = first[tail..].iter().position(|&c| separates(c)).map_or(0, |i| alike - i);
    (head, tail)
}

/// The text without its first `head` and its last `tail` characters and, where that is more than `keep` characters still, without
/// the middle of the rest.
fn without(text: &[char], head: usize, tail: usize, keep: usize) -> String {
    let left = text.len().saturating_sub(head + tail);
    let rest = &text[head.min(text.len())..][..left];
    let marks = usize::from(head > 0) + usize::from(tail > 0);
    let (before, behind) = match left + marks > keep {
        true => {
            let room = keep.saturating_sub(marks + 1);
            (&rest[..room / 2], &rest[left - (room - room / 2)..])
        }
        false => (rest, &rest[left..]),
    };
    let mark = |there: bool| there.then_some(LEFT_OUT);
    let middle = mark(before.len() + behind.len() < left);
    let parts = mark(head > 0).into_iter().chain(before.iter().copied()).chain(middle);
    parts.chain(behind.iter().copied()).chain(mark(tail > 0)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn short(texts: &[&str], keep: usize) -> Vec<String> {
        shortened(&texts.iter().map(|&t| t.to_owned()).collect::<Vec<_>>(), keep)
    }

    #[test]
    fn different_names_stay_different() {
        assert_eq!(short(&["conv1.weight", "fc"], 20), ["conv1.weight", "fc"]);
        assert_eq!(short(&["model.features.12.expand.weight", "fc"], 15), ["model.f\u{2026}.weight", "fc"]);
        let resnet = ["layer3.0.conv1.weight", "layer4.0.conv2.weight", "layer4.1.conv2.weight", "fc.weight"];
        let found = short(&resnet, 14);
        assert_eq!(
            found,
            ["layer3.0.conv1\u{2026}", "layer4.0.conv2\u{2026}", "layer4.1.conv2\u{2026}", "fc.weight"]
        );
        let mobile =
            ["features.14.conv.0.0.weight", "features.14.conv.1.0.weight", "features.15.conv.0.0.weight"];
        assert_eq!(
            short(&mobile, 15),
            ["\u{2026}14.conv.0\u{2026}", "\u{2026}14.conv.1\u{2026}", "\u{2026}15.conv.0\u{2026}"]
        );
        // Nothing in common, and the difference in the middle.
        assert_eq!(
            short(&["aaaaaaaaXbbbbbbbb", "aaaaaaaaYbbbbbbbb"], 8),
            ["aaaaaaaaXbbbbbbbb", "aaaaaaaaYbbbbbbbb"]
        );
    }

    #[test]
    fn names_of_any_length_take_little_time() {
        // Alike but for one character in the middle of a million.
        let name = |c: char| format!("{}{c}{}", "a".repeat(500_000), "b".repeat(500_000));
        let names = [name('x'), name('y')];
        assert!(shortened(&names, 20) == names, "they are whole");
    }

    proptest! {
        #[test]
        fn no_two_become_one_and_none_longer(texts in prop::collection::vec("[a-c./\u{e9}]{0,24}", 0..8), keep in 1usize..26) {
            let found = shortened(&texts, keep);
            let count = |t: &str| t.chars().count();
            prop_assert_eq!(found.iter().collect::<HashSet<_>>().len(), texts.iter().collect::<HashSet<_>>().len());
            for (text, found) in texts.iter().zip(&found) {
                prop_assert!(count(found) <= count(text), "{} {}", text, found);
                prop_assert!(count(text) > keep || found == text);
            }
        }
    }
}

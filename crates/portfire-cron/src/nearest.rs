//! The names most like a mistyped one.

/// The candidates that differ from `typed` by the fewest letters, when they are few enough to be a
/// slip; case does not count.
pub(crate) fn nearest<'c>(
    typed: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Vec<&'c str> {
    let typed: Vec<char> = typed.chars().map(|c| c.to_ascii_lowercase()).collect();
    let most = (typed.len() / 3).max(1);
    let mut best = most;
    let mut found = Vec::new();
    for candidate in candidates {
        if candidate.len().abs_diff(typed.len()) > best {
            continue;
        }
        let distance = distance(&typed, candidate);
        if distance < best {
            best = distance;
            found.clear();
        }
        if distance == best {
            found.push(candidate);
        }
    }
    found
}

/// How many letters must be put in, left out, changed or swapped with their neighbour.
fn distance(typed: &[char], candidate: &str) -> usize {
    let width = typed.len() + 1;
    let mut before = vec![0; width];
    let mut above: Vec<usize> = (0..width).collect();
    let mut previous = None;
    for (row, letter) in candidate.chars().map(|c| c.to_ascii_lowercase()).enumerate() {
        let mut line = vec![row + 1; width];
        for column in 1..width {
            let same = usize::from(typed[column - 1] != letter);
            let mut least =
                (above[column] + 1).min(line[column - 1] + 1).min(above[column - 1] + same);
            if column > 1 && previous == Some(typed[column - 1]) && typed[column - 2] == letter {
                least = least.min(before[column - 2] + 1);
            }
            line[column] = least;
        }
        before = std::mem::replace(&mut above, line);
        previous = Some(letter);
    }
    above[width - 1]
}

/// ``did you mean `a` or `b`?``; nothing when there is no candidate.
pub(crate) fn question(candidates: &[&str]) -> Option<String> {
    let quoted: Vec<String> = candidates.iter().take(3).map(|name| format!("`{name}`")).collect();
    (!quoted.is_empty()).then(|| format!("did you mean {}?", quoted.join(" or ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let names = ["@daily", "@hourly", "@weekly", "@yearly"];
        assert_eq!(nearest("@dialy", names), ["@daily"]);
        assert_eq!(nearest("@Hourl", names), ["@hourly"]);
        assert_eq!(nearest("@hearly", names), ["@yearly"]);
        assert!(nearest("@fortnightly", names).is_empty());
        assert!(nearest("", names).is_empty());
    }
}

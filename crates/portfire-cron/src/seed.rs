//! The values that `H` stands for: chosen by a seed, the same for ever.

use crate::field::Field;
use crate::parse::Term;

/// The hash of a seed text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(u64);

impl Seed {
    /// FNV-1a over the bytes.
    pub(crate) fn of(text: &str) -> Seed {
        Seed(text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
        }))
    }

    /// What `H` or `H/step` stands for in a field.
    pub(crate) fn choose(self, field: Field, step: Option<u8>) -> Term {
        let (first, high) = (field.first(), field.last_hashed());
        match step {
            None => Term::Value(first + self.below(high - first + 1, field)),
            Some(step) => {
                let low = (first + self.below(step, field)).min(high);
                if high == field.last() {
                    Term::From { low, step }
                } else {
                    Term::Range { low, high, step }
                }
            }
        }
    }

    /// A number below `bound`. Each field has its own, so that a change of one field moves no other.
    fn below(self, bound: u8, field: Field) -> u8 {
        let number = mix(self.0.wrapping_add(mix(field as u64 + 1)));
        // The high half of the product is spread evenly, without a division.
        ((u128::from(number) * u128::from(bound)) >> 64) as u8
    }
}

/// The finaliser of SplitMix64.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_for_ever() {
        // These are stored nowhere, but jobs run by them: another hash would move every one.
        let values = Field::ALL.map(|field| Seed::of("daily-report").below(24, field));
        assert_eq!(values, [20, 6, 18, 2, 23, 22]);
    }

    #[test]
    fn seeds_spread_over_all_values() {
        let mut counts = [0; 60];
        for index in 0..60_000 {
            let seed = Seed::of(&format!("job-{index}"));
            counts[usize::from(seed.below(60, Field::Minute))] += 1;
        }
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }
}

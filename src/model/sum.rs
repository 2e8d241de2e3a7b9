/// The sum of numbers that may come from anywhere: it stays at the highest number instead of overflowing.
pub fn total(numbers: impl IntoIterator<Item = u64>) -> u64 {
    numbers.into_iter().fold(0, u64::saturating_add)
}

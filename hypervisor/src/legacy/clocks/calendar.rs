//! Days and dates, in the Gregorian calendar (H. Hinnant, "chrono-compatible low-level date algorithms").

/// Seconds of a day.
pub const DAY: u64 = 86_400;

/// A moment, by the calendar and the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// The year, 1970 to 9999.
    pub year: u32,
    /// The month, 1 to 12.
    pub month: u32,
    /// The day of the month, 1 to 31.
    pub day: u32,
    /// The hour.
    pub hour: u32,
    /// The minute.
    pub minute: u32,
    /// The second.
    pub second: u32,
}

impl Date {
    /// The date of so many seconds since 1970.
    pub fn of(seconds: u64) -> Self {
        // Years count from March on, so that the odd day is the last; eras are of 400 years.
        let days = (seconds / DAY).min(2_932_896) + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 {
            from_march + 3
        } else {
            from_march - 9
        };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let second = seconds % DAY;
        Self {
            year: year as u32,
            month: month as u32,
            day: (day_of_year - (153 * from_march + 2) / 5 + 1) as u32,
            hour: (second / 3600) as u32,
            minute: (second / 60 % 60) as u32,
            second: (second % 60) as u32,
        }
    }

    /// Seconds since 1970. What is out of range counts as the nearest that is not; the 31st of a shorter
    /// month is a day of the next one.
    pub fn seconds(self) -> u64 {
        let month = u64::from(self.month.clamp(1, 12));
        let year = u64::from(self.year.clamp(1970, 9999)) - u64::from(month <= 2);
        let (era, year_of_era) = (year / 400, year % 400);
        let from_march = if month > 2 { month - 3 } else { month + 9 };
        let day_of_year = (153 * from_march + 2) / 5 + u64::from(self.day.clamp(1, 31)) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        let of_day = [
            (self.hour, 23, 3600),
            (self.minute, 59, 60),
            (self.second, 59, 1),
        ];
        let of_day = of_day.map(|(value, most, unit)| u64::from(value.min(most)) * unit);
        days * DAY + of_day.iter().sum::<u64>()
    }

    /// The day of the week of so many seconds since 1970: 1 is Sunday.
    pub fn weekday(seconds: u64) -> u32 {
        // That was a Thursday.
        ((seconds / DAY + 4) % 7) as u32 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments_have_their_dates() {
        for (seconds, [year, month, day, hour, minute, second], weekday) in [
            (0, [1970, 1, 1, 0, 0, 0], 5),
            (951_782_399, [2000, 2, 28, 23, 59, 59], 2),
            (951_782_400, [2000, 2, 29, 0, 0, 0], 3),
            (4_107_542_400, [2100, 3, 1, 0, 0, 0], 2),
            (1_795_910_400, [2026, 11, 29, 0, 0, 0], 1),
            (253_402_300_799, [9999, 12, 31, 23, 59, 59], 6),
        ] {
            let date = Date {
                year,
                month,
                day,
                hour,
                minute,
                second,
            };
            assert_eq!(Date::of(seconds), date);
            assert_eq!(date.seconds(), seconds);
            assert_eq!(Date::weekday(seconds), weekday, "{date:?}");
        }
    }

    proptest! {
        #[test]
        fn there_and_back_is_the_same(seconds in 0..253_402_300_800_u64) {
            prop_assert_eq!(Date::of(seconds).seconds(), seconds);
        }

        #[test]
        fn nonsense_is_some_date(parts: [u32; 6], seconds: u64) {
            let [year, month, day, hour, minute, second] = parts;
            let date = Date { year, month, day, hour, minute, second };
            prop_assert!(date.seconds() < 253_402_300_800 + DAY);
            prop_assert!(Date::of(seconds).year <= 9999);
        }
    }
}

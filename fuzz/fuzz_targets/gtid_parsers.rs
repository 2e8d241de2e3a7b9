#![no_main]
//! Whatever is accepted prints or encodes back to an equal value, and the algebra holds on it.

use libfuzzer_sys::fuzz_target;
use tidemark::model::gtid::{Gtid, GtidSet, MysqlGtidSet};
use tidemark::model::{BinlogPosition, Flavor};

fuzz_target!(|data: &[u8]| {
    if let Ok(set) = MysqlGtidSet::decode_wire(data) {
        assert_eq!(MysqlGtidSet::decode_wire(&set.encode_wire()).as_ref(), Ok(&set));
        assert_eq!(set.to_string().parse().as_ref(), Ok(&set));
    }
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(gtid) = text.parse::<Gtid>() {
        assert_eq!(gtid.to_string().parse().as_ref(), Ok(&gtid));
    }
    if let Ok(position) = text.parse::<BinlogPosition>() {
        assert_eq!(position.to_string().parse::<BinlogPosition>().ok(), Some(position));
    }
    let (left, right) = text.split_once('/').unwrap_or((text, text));
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let (Ok(a), Ok(b)) = (GtidSet::parse(flavor, left), GtidSet::parse(flavor, right)) else { continue };
        assert_eq!(GtidSet::parse(flavor, &a.to_string()).as_ref(), Ok(&a));
        let (both, rest) = (a.intersection(&b), a.difference(&b));
        assert!(both.is_subset(&a) && rest.is_subset(&a));
        assert_eq!(a.is_subset(&b), rest.is_empty());
        if flavor == Flavor::Mysql {
            assert_eq!(both.union(&rest).as_ref(), Ok(&a));
        }
    }
});

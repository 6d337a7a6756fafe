//! A city whose disk is full: it says so, goes on reading, and goes on working when there is room.

use std::process::{Command, Stdio};

use crate::program::Data;

/// What is done in a namespace of its own, where the folder `$1` is a disk of 48 MiB and `$0` is the program.
const PLAY: &str = r#"
set -e
program=$1; disk=$2; data=$disk/city
mount -t tmpfs -o size=48m none "$disk"
"$program" up --data "$data" --ports auto >"$disk.out" 2>"$disk.log" &
city=$!
trap 'kill -9 $city 2>/dev/null || true' EXIT
for _ in $(seq 200); do [ -f "$data/city.json" ] && break; sleep 0.1; done
order() { "$program" demo order --data "$data" >>"$disk.orders" 2>&1; }
order
echo "ordered"
cat /dev/zero >"$disk/filler" 2>/dev/null || true
if order; then echo "an order was taken without room"; fi
before=$(wc -l <"$disk.log"); sleep 5; after=$(wc -l <"$disk.log")
echo "lines $((after - before))"
grep -c "storage_full\|503" "$disk.orders" >/dev/null && echo "refused"
grep -q "the disk that holds $data/db is full" "$disk.log" && echo "told"
kill -0 $city && echo "alive"
rm "$disk/filler"
for _ in $(seq 60); do if order; then echo "ordered again"; break; fi; sleep 0.5; done
"$program" audit money --data "$data" | tail -1
"$program" events parked --data "$data" | tail -1
kill -TERM $city; wait $city; echo "stopped"
"#;

#[test]
fn a_city_on_a_full_disk_refuses_says_so_and_goes_on_when_there_is_room() {
    let data = Data::new();
    let disk = data.path().with_file_name("disk");
    std::fs::create_dir(&disk).unwrap();
    let Some(way) = WAYS.iter().find(|way| {
        let tried = inside(way, "mount -t tmpfs none \"$2\"").arg("nothing").arg(&disk).stderr(Stdio::null()).status();
        tried.is_ok_and(|ended| ended.success())
    }) else {
        println!("skipped: this machine does not let a process mount a disk of its own (unshare --mount)");
        return;
    };
    let played = inside(way, PLAY).arg(env!("CARGO_BIN_EXE_foodexpress")).arg(&disk).output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&played.stdout), String::from_utf8_lossy(&played.stderr));
    let lines: Vec<&str> = said.lines().collect();
    for line in ["ordered", "refused", "told", "alive", "ordered again", "stopped"] {
        assert!(lines.contains(&line), "no {line:?} in {said}{errors}");
    }
    assert!(!said.contains("without room"), "{said}");
    let told: u32 = lines.iter().find_map(|line| line.strip_prefix("lines ")).unwrap().parse().unwrap();
    // Seven services and what works in each by itself, at steps that get longer.
    assert!(told < 150, "{told} lines in 5 s");
    let books = lines.iter().find(|line| line.contains("ledger_sum")).unwrap();
    for right in ["\"duplicates\":0", "\"lost\":0", "\"findings\":[]"] {
        assert!(books.contains(right), "{books}");
    }
    let parked = lines.iter().find(|line| line.contains("\"services\"")).unwrap();
    assert!(!parked.contains("event_id"), "{parked}");
}

/// How somebody gets mounts of their own: as root, or as somebody who is root only in there.
const WAYS: &[&[&str]] = &[&["--mount"], &["--user", "--map-root-user", "--mount"]];

/// A shell whose mounts nobody else sees and which end with it; no play takes longer than two minutes.
fn inside(way: &[&str], text: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["120", "unshare"]).args(way).args(["sh", "-c", text, "play"]);
    command
}

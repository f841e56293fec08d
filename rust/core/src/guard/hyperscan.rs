//! The accelerated scanner: Hyperscan (Vectorscan 5.4.11) from the pinned Python wheel, loaded at run time.
//!
//! The database is compiled in Python (`pygate/guard/compile.py`), serialised, and used here through the C
//! functions that the wheel's extension module exports. Reported ends become regions; the rule's Rust
//! expression decides. Nothing of Python is called.
//!
//! This is one of the two modules with `unsafe`. What makes it sound:
//! 1. The library stays loaded for as long as anything from it is alive (fields drop in declared order).
//! 2. The database is immutable after it was deserialised by the library that uses it, whose version string
//!    is compared first; the library itself refuses a database of another version or platform.
//! 3. A scratch space is used by one scan at a time (mutex).
//! 4. The callback gets a pointer that lives on the stack of the scan, and never unwinds: it only pushes
//!    into vectors.
#![allow(unsafe_code)]

use super::pattern::Pattern;
use super::ruleset::{Region, RuleSet, Scanner};
use super::Unjudgeable;
use libloading::Library;
use std::ffi::{c_char, c_int, c_uint, c_ulonglong, c_void, CStr};
use std::path::PathBuf;
use std::ptr;
use std::sync::{Mutex, PoisonError};

/// A database compiled for a rule set, and the library to run it with.
#[derive(Clone, Debug)]
pub struct HyperscanDb {
    /// `hs_serialize_database` (Python: `hyperscan.dumpb`).
    pub bytes: Vec<u8>,
    /// The wheel's extension module.
    pub library: PathBuf,
    /// `hs_version` of the library that compiled it.
    pub version: String,
    /// [`Ruleset::fingerprint`](super::Ruleset::fingerprint) of the rules it was compiled from.
    pub fingerprint: String,
}

type OnMatch = unsafe extern "C" fn(c_uint, c_ulonglong, c_ulonglong, c_uint, *mut c_void) -> c_int;
type Scan = unsafe extern "C" fn(
    *const c_void,
    *const c_char,
    c_uint,
    c_uint,
    *mut c_void,
    Option<OnMatch>,
    *mut c_void,
) -> c_int;
type Free = unsafe extern "C" fn(*mut c_void) -> c_int;

pub(super) struct Hyperscan {
    scratch: Mutex<Owned>,
    database: Owned,
    scan: Scan,
    /// Widest match of each rule.
    widths: Vec<u32>,
    // Last, so that it is unloaded last.
    _library: Library,
}

/// Something the library allocated.
struct Owned {
    pointer: *mut c_void,
    free: Free,
}

// SAFETY: databases and scratch spaces are plain memory of the library, bound to no thread. The database is
// only read; the scratch is behind a mutex.
unsafe impl Send for Owned {}
// SAFETY: as above; a shared `Owned` is only read.
unsafe impl Sync for Owned {}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: allocated by the library `free` belongs to, freed once, unused from here on.
        unsafe { (self.free)(self.pointer) };
    }
}

impl Hyperscan {
    /// Loads the library and the database; the error says why it cannot be used.
    pub fn load(database: &HyperscanDb, fingerprint: &str, patterns: &[Pattern]) -> Result<Hyperscan, String> {
        if database.fingerprint != fingerprint {
            return Err("the database was compiled from other rules".into());
        }
        #[cfg(target_arch = "x86_64")]
        if !std::arch::is_x86_feature_detected!("avx2") {
            // The 0.7.19 wheel has AVX2 code and does not ask before it runs it.
            return Err("the processor has no AVX2".into());
        }
        let shown = database.library.display();
        // SAFETY: the file is the pinned wheel's extension module, named by our own control process; its
        // initialisers only set up C++ statics.
        let library = unsafe { Library::new(&database.library) }.map_err(|e| format!("{shown}: {e}"))?;
        // SAFETY: the signatures are those of hs_runtime.h and hs_common.h, stable through version 5.
        unsafe {
            let version: unsafe extern "C" fn() -> *const c_char = symbol(&library, b"hs_version\0")?;
            let deserialize: unsafe extern "C" fn(*const c_char, usize, *mut *mut c_void) -> c_int =
                symbol(&library, b"hs_deserialize_database\0")?;
            let alloc_scratch: unsafe extern "C" fn(*const c_void, *mut *mut c_void) -> c_int =
                symbol(&library, b"hs_alloc_scratch\0")?;
            let free_database: Free = symbol(&library, b"hs_free_database\0")?;
            let free_scratch: Free = symbol(&library, b"hs_free_scratch\0")?;
            let scan: Scan = symbol(&library, b"hs_scan\0")?;

            let found = CStr::from_ptr(version()).to_string_lossy().into_owned();
            if found != database.version {
                return Err(format!("{shown} is version {found}, the database is of {}", database.version));
            }
            let mut raw = ptr::null_mut();
            let code = deserialize(database.bytes.as_ptr().cast(), database.bytes.len(), &mut raw);
            if code != 0 || raw.is_null() {
                return Err(format!("the database cannot be read (code {code})"));
            }
            let database = Owned { pointer: raw, free: free_database };
            let mut raw = ptr::null_mut();
            let code = alloc_scratch(database.pointer, &mut raw);
            if code != 0 || raw.is_null() {
                return Err(format!("no scratch space (code {code})"));
            }
            let scratch = Mutex::new(Owned { pointer: raw, free: free_scratch });
            let widths = patterns.iter().map(|pattern| pattern.width as u32).collect();
            Ok(Hyperscan { scratch, database, scan, widths, _library: library })
        }
    }
}

/// # Safety
/// `T` must be the type of the function called `name`.
unsafe fn symbol<T: Copy>(library: &Library, name: &[u8]) -> Result<T, String> {
    // SAFETY: the caller's promise.
    unsafe { library.get::<T>(name) }.map(|symbol| *symbol).map_err(|error| error.to_string())
}

/// What the callback sees.
struct Sink<'a> {
    wanted: &'a RuleSet,
    widths: &'a [u32],
    regions: &'a mut Vec<Region>,
}

unsafe extern "C" fn on_match(id: c_uint, _: c_ulonglong, to: c_ulonglong, _: c_uint, sink: *mut c_void) -> c_int {
    // SAFETY: the pointer `propose` passed for this very scan; nobody else uses it meanwhile.
    let sink = unsafe { &mut *sink.cast::<Sink<'_>>() };
    let rule = id as u16;
    let Some(width) = sink.widths.get(id as usize).filter(|_| sink.wanted.contains(rule)) else { return 0 };
    let to = to as u32;
    let from = to.saturating_sub(*width);
    match sink.regions.last_mut() {
        Some(last) if last.rule == rule && from <= last.to && last.to <= to => last.to = to,
        _ => sink.regions.push(Region { rule, anchored: false, from, to }),
    }
    0
}

impl Scanner for Hyperscan {
    fn propose(&self, text: &[u8], wanted: &RuleSet, regions: &mut Vec<Region>) -> Result<(), Unjudgeable> {
        let mut sink = Sink { wanted, widths: &self.widths, regions };
        let scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: text is readable for its length (below 4 GiB); database and scratch belong together and
        // are alive; the sink outlives the call.
        let code = unsafe {
            (self.scan)(
                self.database.pointer,
                text.as_ptr().cast(),
                text.len() as c_uint,
                0,
                scratch.pointer,
                Some(on_match),
                ptr::from_mut(&mut sink).cast(),
            )
        };
        match code {
            0 => Ok(()),
            code => Err(Unjudgeable::Engine(code)),
        }
    }

    fn name(&self) -> &'static str {
        "hyperscan"
    }
}

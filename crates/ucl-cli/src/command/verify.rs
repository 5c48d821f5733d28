//! `ucl verify`: digests of a universal folder, CRCs of torch files, and that nothing is missing.

use crate::args::VerifyArgs;
use crate::failure::Stop;
use crate::progress::{Count, Meter, watched};
use crate::session::{Answer, Session};
use crate::show::{self, Facts};
use crate::source::Opened;
use crate::{args::SourceArgs, target};
use indexmap::IndexMap;
use serde_json::json;
use ucl_exec::{DigestRange, Options, Progress, digest_ranges};
use ucl_formats::Inventory;
use ucl_formats::huggingface::states;
use ucl_formats::inventory::{Data, Stored};
use ucl_formats::universal::{Entry, Manifest};
use ucl_formats::verify::{storages, strays};
use ucl_load::Failure;

pub(super) fn run(args: &VerifyArgs, session: &mut Session<'_, '_>) -> Result<Answer, Stop> {
    let options = target::options(&args.run, false);
    let opened = Opened::new(&args.checkpoint, &SourceArgs::default())?;
    let inventory = opened.inventory();
    // Where there is no checkpoint none is damaged.
    if inventory.kind.is_empty() && !opened.problems().is_empty() {
        return Err(Failure::from(opened.problems()).into());
    }
    session.say(&opened.kind())?;
    let states = states(&inventory.root).and_then(Result::ok);
    let mut found = match (&inventory.universal, states) {
        (Some(manifest), _) => universal(inventory, manifest, &options, session)?,
        (None, Some(states)) => digests(inventory, &states.tensors, &options, session)?,
        (None, None) => torch_files(inventory, session)?,
    };
    let problems = opened.problems().iter().map(|problem| show::name(&problem.to_string()));
    found.wrong.splice(0..0, problems);

    let mut facts = Facts::default();
    facts.add_all("verified", &found.verified);
    facts.add_all("unverified", &found.unverified);
    facts.add_all("wrong", &found.wrong);
    let sound = found.wrong.is_empty();
    facts.add("result", if sound { "nothing is wrong" } else { "the checkpoint is damaged" });
    session.say(&facts.show(session.style()))?;
    session.answer(json!({
        "source": opened.json(None), "sound": sound, "verified": found.verified,
        "unverified": found.unverified, "wrong": found.wrong,
    }))?;
    Ok(if sound { Answer::Yes } else { Answer::No })
}

/// What was found, a sentence each.
#[derive(Default)]
struct Found {
    verified: Vec<String>,
    unverified: Vec<String>,
    wrong: Vec<String>,
}

/// Digests of every tensor, and files that do not belong.
fn universal(
    inventory: &Inventory,
    manifest: &Manifest,
    options: &Options,
    session: &mut Session<'_, '_>,
) -> Result<Found, Stop> {
    let mut found = digests(inventory, &manifest.tensors, options, session)?;
    match strays(&inventory.root, manifest) {
        Ok(strays) => {
            found.wrong.extend(
                strays.iter().map(|name| format!("{} does not belong here", show::name(name))),
            );
        }
        Err(problem) => found.wrong.push(show::name(&problem.to_string())),
    }
    Ok(found)
}

/// Digests of every tensor of a manifest.
fn digests(
    inventory: &Inventory,
    entries: &[Entry],
    options: &Options,
    session: &mut Session<'_, '_>,
) -> Result<Found, Stop> {
    let mut found = Found::default();
    let places: IndexMap<(&str, &str), &Stored> = inventory
        .tensors
        .iter()
        .map(|stored| ((stored.name.as_str(), stored.state.as_str()), stored))
        .collect();
    let mut ranges = Vec::new();
    let mut expected = Vec::new();
    for entry in entries {
        for (state, of_state) in &entry.states {
            let stored = places.get(&(entry.name.as_str(), state.as_str()));
            let what =
                format!("{} ({state}) in {}", show::name(&entry.name), show::name(&of_state.file));
            match stored.and_then(|stored| range(inventory, stored)) {
                Some(range) => {
                    ranges.push(range);
                    expected.push((what, of_state.digest.as_str()));
                }
                None => found.wrong.push(format!("{what} is missing")),
            }
        }
    }
    let total: u64 = ranges.iter().map(|range| range.len).sum();
    let digests =
        watched(session, (Count::Read, total), |meter| digest_ranges(&ranges, options, meter))?;
    let mut agree = 0;
    for ((what, expected), digest) in expected.into_iter().zip(digests) {
        match digest {
            Ok(digest) if digest == expected => agree += 1,
            Ok(digest) => {
                found
                    .wrong
                    .push(format!("{what} has the digest {digest}, not {}", show::name(expected)));
            }
            Err(error) => found.wrong.push(format!("{what}: {}", show::name(&error.to_string()))),
        }
    }
    found.verified.push(format!(
        "{} have their digests, {}",
        show::count(agree, "tensor"),
        show::bytes(total)
    ));
    Ok(found)
}

/// Where a whole tensor lies.
fn range(inventory: &Inventory, stored: &Stored) -> Option<DigestRange> {
    let (file, offset) = match &stored.data {
        Data::Strided { file, offset, .. } => (*file, *offset),
        Data::Runs(_) | Data::Boxes(_) => return None,
    };
    let path = inventory.files.get(usize::try_from(file).ok()?)?.path.clone();
    let elements: u64 = stored.shape.iter().product();
    Some(DigestRange { path, offset, len: elements * stored.dtype.size_bytes() })
}

/// CRCs of torch files; files of other kinds have none.
fn torch_files(inventory: &Inventory, session: &mut Session<'_, '_>) -> Result<Found, Stop> {
    let is_torch = |file: &&ucl_formats::inventory::SourceFile| {
        file.path.extension().is_none_or(|end| end != "safetensors" && end != "json")
    };
    let (torch, others): (Vec<_>, Vec<_>) = inventory.files.iter().partition(is_torch);
    let total = torch.iter().map(|file| file.bytes).sum();
    let results = watched(session, (Count::Read, total), |meter: &Meter| {
        meter.stage("verify");
        let check = |file: &&ucl_formats::inventory::SourceFile| {
            storages(&file.path, &mut |bytes| meter.advance(bytes, 0))
        };
        torch.iter().map(check).collect::<Vec<_>>()
    })?;
    let (mut agree, mut without) = (0, 0);
    let mut found = Found::default();
    for (file, result) in torch.iter().zip(results) {
        match result {
            Ok(storages) => {
                agree += storages.agree;
                without += storages.unverified;
                let name = show::name(&file.path.display().to_string());
                found.wrong.extend(
                    storages.wrong.iter().map(|wrong| format!("{name}: {}", show::name(wrong))),
                );
            }
            Err(problem) => found.wrong.push(show::name(&problem.to_string())),
        }
    }
    if agree > 0 {
        found.verified.push(format!(
            "{} of {} have their CRC",
            show::count(agree, "storage"),
            show::count(torch.len() as u64, "file")
        ));
    }
    if without > 0 {
        found.unverified.push(format!("{} without a CRC", show::count(without, "storage")));
    }
    if !others.is_empty() {
        found.unverified.push(format!(
            "{} of a kind without checksums",
            show::count(others.len() as u64, "file")
        ));
    }
    Ok(found)
}

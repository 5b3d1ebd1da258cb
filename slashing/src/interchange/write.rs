//! The writer: an interchange file, streamed out of lines that come in order.
//!
//! **Invariant:** no two entries that it writes for a validator are slashable together, and the
//! ratchet is one of them; kept by
//! `tests::properties::an_import_never_lowers_and_an_export_carries_every_ratchet`.

use std::io::{self, BufWriter, Write};

use duty::{Epoch, PublicKey, Root, Slot};

use super::{
    Exported, Progress, Step,
    read::VERSION,
    rows::{Block, Line, Vote},
};
use crate::rules::{Attested, Proposed, Ratchet};

/// Bytes that are written at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// Validators between two reports of progress.
const REPORT_EVERY: u64 = 16;

/// Writes one file. Without [`Self::finish`], what was written is no valid JSON.
pub(super) struct Writer<W: Write, P> {
    out: BufWriter<W>,
    open: Option<Open>,
    exported: Exported,
    total: u64,
    progress: P,
}

/// The validator that is being written.
struct Open {
    validator: PublicKey,
    top: Ratchet,
    /// The last slot that was written.
    slot: Option<Slot>,
    /// The last source and target that were written; none once there were none.
    vote: Option<(Epoch, Epoch)>,
    section: Section,
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Section {
    Blocks,
    Votes,
}

impl<W: Write, P: Fn(Progress)> Writer<W, P> {
    /// Begins a file about so many validators.
    pub(super) fn new(out: W, root: Root, total: u64, progress: P) -> io::Result<Self> {
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, out);
        write!(
            out,
            "{{\"metadata\":{{\"interchange_format_version\":\"{VERSION}\",\
             \"genesis_validators_root\":\"{root}\"}},\"data\":["
        )?;
        let writer = Self {
            out,
            open: None,
            exported: Exported::default(),
            total,
            progress,
        };
        writer.report();
        Ok(writer)
    }

    fn report(&self) {
        (self.progress)(Progress {
            step: Step::Writing,
            done: self.exported.validators,
            total: Some(self.total),
        });
    }

    /// Takes the next line.
    pub(super) fn line(&mut self, validator: PublicKey, line: Line) -> io::Result<()> {
        if let Line::Top(top) = line {
            return self.begin(validator, top);
        }
        // Entries of a validator that has no ratchet: the schema allows them, the code makes none.
        if self.open.as_ref().map(|open| open.validator) != Some(validator) {
            self.begin(validator, Ratchet::default())?;
        }
        match line {
            Line::Top(_) => Ok(()),
            Line::Block(block) => self.block(block),
            Line::Vote(vote) => self.vote(vote),
        }
    }

    fn begin(&mut self, validator: PublicKey, top: Ratchet) -> io::Result<()> {
        self.end()?;
        let comma = if self.exported.validators == 0 {
            ""
        } else {
            ","
        };
        write!(
            self.out,
            "{comma}\n{{\"pubkey\":\"{validator}\",\"signed_blocks\":["
        )?;
        self.exported.validators += 1;
        self.open = Some(Open {
            validator,
            top,
            slot: None,
            vote: None,
            section: Section::Blocks,
        });
        Ok(())
    }

    fn block(&mut self, block: Block) -> io::Result<()> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        match open.slot {
            // The root, if it is known, came first. What comes now is the same message, or
            // slashable together with it.
            Some(slot) if slot == block.slot => {
                if block.root.is_some() {
                    self.exported.left_out += 1;
                }
                Ok(())
            }
            last => {
                open.slot = Some(block.slot);
                self.write_block(block, last.is_none())
            }
        }
    }

    fn vote(&mut self, vote: Vote) -> io::Result<()> {
        self.end_blocks()?;
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let tops = |top: Attested| top.target == vote.target && top.source != vote.source;
        let last = open.vote;
        let conflicts = last
            .is_some_and(|(source, target)| vote.source < source || vote.target <= target)
            || vote.source > vote.target
            || open.top.attested.is_some_and(tops);
        if conflicts {
            if last != Some((vote.source, vote.target)) || vote.root.is_some() {
                self.exported.left_out += 1;
            }
            return Ok(());
        }
        open.vote = Some((vote.source, vote.target));
        self.write_vote(vote, last.is_none())
    }

    /// After a validator's last block: its ratchet's, unless that was written.
    fn end_blocks(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        if open.section == Section::Votes {
            return Ok(());
        }
        open.section = Section::Votes;
        let last = open.slot;
        if let Some(Proposed { slot, root }) = open.top.proposed
            && last.is_none_or(|last| last < slot)
        {
            self.exported.synthetic += 1;
            self.write_block(Block { slot, root }, last.is_none())?;
        }
        self.out.write_all(b"],\"signed_attestations\":[")
    }

    /// After a validator's last line: its ratchet's vote, unless that was written.
    fn end(&mut self) -> io::Result<()> {
        self.end_blocks()?;
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        if let Some(Attested {
            source,
            target,
            root,
        }) = open.top.attested
            && open
                .vote
                .is_none_or(|last| last.0 < source || last.1 < target)
        {
            self.exported.synthetic += 1;
            let vote = Vote {
                source,
                target,
                root,
            };
            self.write_vote(vote, open.vote.is_none())?;
        }
        self.out.write_all(b"]}")?;
        if self.exported.validators.is_multiple_of(REPORT_EVERY) {
            self.report();
        }
        Ok(())
    }

    fn write_block(&mut self, block: Block, is_first: bool) -> io::Result<()> {
        self.exported.entries += 1;
        let comma = if is_first { "" } else { "," };
        write!(self.out, "{comma}{{\"slot\":\"{}\"", block.slot)?;
        self.write_root(block.root)
    }

    fn write_vote(&mut self, vote: Vote, is_first: bool) -> io::Result<()> {
        self.exported.entries += 1;
        let comma = if is_first { "" } else { "," };
        write!(
            self.out,
            "{comma}{{\"source_epoch\":\"{}\",\"target_epoch\":\"{}\"",
            vote.source, vote.target
        )?;
        self.write_root(vote.root)
    }

    fn write_root(&mut self, root: Option<duty::SigningRoot>) -> io::Result<()> {
        match root {
            Some(root) => write!(self.out, ",\"signing_root\":\"{root}\"}}"),
            None => self.out.write_all(b"}"),
        }
    }

    /// Ends the file.
    pub(super) fn finish(mut self) -> io::Result<Exported> {
        self.end()?;
        self.out.write_all(b"\n]}\n")?;
        self.out.flush()?;
        self.report();
        Ok(self.exported)
    }
}

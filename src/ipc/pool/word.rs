//! A slot's state word: state (8 bits), generation (24), claimant (32), and the moves between states.

use super::Outcome;

/// Generations count modulo this.
const GENERATIONS: u32 = 1 << 24;

/// A state word as it is in shared memory. Another process wrote it: an unknown state is none of those below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Word(pub(super) u64);

/// Nobody's; the client may fill it.
pub(super) const FREE: u8 = 0;
/// The client writes the request.
pub(super) const FILLING: u8 = 1;
/// Any server may claim it.
pub(super) const READY: u8 = 2;
/// A server reads the request and writes the reply.
pub(super) const CLAIMED: u8 = 3;
/// The client gave up while a server was at it. The slot must not be used again before that server lets go or is dead: it
/// may still write a reply.
pub(super) const ABANDONED: u8 = 4;
/// The reply is there.
pub(super) const REPLIED: u8 = 5;
/// It failed: no server answers it.
pub(super) const DIED: u8 = 6;
/// It failed: the reply does not fit.
pub(super) const TOO_LARGE: u8 = 7;

impl Word {
    fn new(state: u8, generation: u32, claimant: u32) -> Word {
        Word(u64::from(state) << 56 | u64::from(generation % GENERATIONS) << 32 | u64::from(claimant))
    }

    /// The state.
    pub(super) fn state(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// Which use of the slot.
    pub(super) fn generation(self) -> u32 {
        (self.0 >> 32) as u32 % GENERATIONS
    }

    /// The server that has it.
    pub(super) fn claimant(self) -> u32 {
        self.0 as u32
    }

    /// The client begins the slot's next use.
    pub(super) fn filling(self) -> Word {
        Word::new(FILLING, self.generation().wrapping_add(1), 0)
    }

    /// Any server may have it.
    pub(super) fn ready(self) -> Word {
        Word::new(READY, self.generation(), 0)
    }

    /// A server takes it, when it is ready.
    pub(super) fn claimed(self, claimant: u32) -> Option<Word> {
        (self.state() == READY).then(|| Word::new(CLAIMED, self.generation(), claimant))
    }

    /// The same use by the same server in another state.
    pub(super) fn with_state(self, state: u8) -> Word {
        Word::new(state, self.generation(), self.claimant())
    }

    /// Nobody's; the generation stays, so that the next use has another.
    pub(super) fn free(self) -> Word {
        Word::new(FREE, self.generation(), 0)
    }

    /// What a giving-up client makes of it: free at once, or abandoned while a server is at it.
    pub(super) fn given_up(self) -> Word {
        match self.state() {
            CLAIMED | ABANDONED => self.with_state(ABANDONED),
            _ => self.free(),
        }
    }

    /// What becomes of it when `claimant` died; `None` when that is nothing to it.
    pub(super) fn after_death(self, claimant: u32, may_retry: bool) -> Option<Word> {
        match self.state() {
            _ if self.claimant() != claimant => None,
            CLAIMED if may_retry => Some(self.ready()),
            CLAIMED => Some(self.with_state(DIED)),
            ABANDONED => Some(self.free()),
            _ => None,
        }
    }

    /// How the request ended.
    pub(super) fn outcome(self) -> Option<Outcome> {
        match self.state() {
            READY | FILLING | CLAIMED => None,
            REPLIED => Some(Outcome::Replied),
            TOO_LARGE => Some(Outcome::ReplyTooLarge),
            _ => Some(Outcome::ServerDied),
        }
    }
}

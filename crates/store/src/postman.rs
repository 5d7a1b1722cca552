//! Hands out a batch's answers.

use crate::writer::{Answer, Spent};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};

/// An answer and who waits for it.
pub(crate) type Reply = (oneshot::Sender<(Answer, Spent)>, (Answer, Spent));

/// Hands out answers from within the runtime where there is one. The writer then wakes it once a batch and
/// not once a caller: a wake from a foreign thread costs a lock, and often a system call.
pub(crate) struct Postman(Option<mpsc::UnboundedSender<Vec<Reply>>>);

impl Postman {
    pub(crate) fn start() -> Self {
        let Ok(runtime) = Handle::try_current() else { return Self(None) };
        let (sender, mut receiver) = mpsc::unbounded_channel();
        runtime.spawn(async move {
            while let Some(replies) = receiver.recv().await {
                hand_out(replies);
            }
        });
        Self(Some(sender))
    }

    pub(crate) fn deliver(&self, replies: Vec<Reply>) {
        match &self.0 {
            // A runtime that is going down takes no more; then those that wait elsewhere are still answered.
            Some(sender) => sender.send(replies).unwrap_or_else(|refused| hand_out(refused.0)),
            None => hand_out(replies),
        }
    }
}

fn hand_out(replies: Vec<Reply>) {
    for (reply, answer) in replies {
        // Whoever asked may have gone; what was done is on record.
        let _gone = reply.send(answer);
    }
}

//! Microsoft Teams, against a receiver as strict as its documentation. That a card is one is shown with Microsoft's own
//! library, in `others`.

use crate::common::{ATTACKS, fails_well, hostile, http, is_documented, message, resolved, saying, secret};
use checkrein_core::{name::is_invisible, signal::Notification};
use checkrein_signals::{
    Retry, Sink as _,
    sinks::teams::{Teams, TeamsConfig},
};
use checkrein_testbed::receivers::{
    scripted::{Receiver, Reply},
    teams::{self, PATH},
};

fn sink(receiver: &Receiver) -> Teams {
    let webhook_url = secret(&format!("{}{PATH}", receiver.url()));
    Teams::new(&TeamsConfig { webhook_url }, http()).unwrap()
}

#[tokio::test]
async fn a_message_is_what_the_documentation_shows() {
    let receiver = teams::start();
    sink(&receiver).notify(&message()).await.unwrap();
    is_documented("teams", &receiver.take()[0].json());
    sink(&receiver).notify(&resolved()).await.unwrap();
    assert!(receiver.take()[0].text().contains("Resolved: action.blocked"));
}

#[tokio::test]
async fn whatever_agents_say_is_text_and_stays_within_the_limit() {
    let receiver = teams::start();
    let sink = sink(&receiver);
    let quotes = ["\"".repeat(10_000), "\\".repeat(10_000), "\u{1}".repeat(10_000)];
    for message in hostile().into_iter().chain(quotes.iter().map(|text| saying(text))) {
        sink.notify(&message).await.unwrap();
    }
    for attack in ATTACKS {
        sink.notify(&saying(attack)).await.unwrap();
    }
    sink.notify(&Notification { signals: Vec::new(), link: None, count: 1, ..message() }).await.unwrap();
    for request in receiver.take() {
        // Nothing but runs, which Teams does not interpret, may hold what agents say.
        for element in request.json()["attachments"][0]["content"]["body"].as_array().unwrap() {
            assert_eq!(element["type"], "RichTextBlock");
            for run in element["inlines"].as_array().unwrap() {
                let text = run["text"].as_str().unwrap();
                assert!(run["type"] == "TextRun" && !text.chars().any(is_invisible), "{text}");
            }
        }
    }
}

#[tokio::test]
async fn a_receiver_that_fails_is_tried_again_or_not_and_no_secret_is_shown() {
    let receiver = teams::start();
    let sink = sink(&receiver);
    fails_well(&sink, &receiver, &[PATH.trim_start_matches('/'), "SECRET-SIGNATURE"]).await;
    let said = "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429";
    receiver.answers([Reply::new(200, said)]);
    assert_eq!(sink.notify(&message()).await.unwrap_err().retry, Retry::Later);
    assert_eq!(receiver.take().len(), 1);
    let config = TeamsConfig { webhook_url: secret("outlook.office.com/SECRET") };
    let error = Teams::new(&config, http()).err().unwrap();
    assert!(error.contains("`webhook_url`") && !error.contains("SECRET"), "{error}");
}

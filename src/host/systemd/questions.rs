//! Questions about units' properties, many on their way at once. A unit has four hundred properties; for some systemd reads
//! control groups, and for one, `UnitFileState`, every unit folder: only what is used is asked for.

use std::collections::HashMap;
use std::pin::Pin;
use std::task::Poll;

use anyhow::{Context, Result};
use zbus::wire::OwnedVariant;

use crate::unit::UnitName;

pub const UNIT: &str = "org.freedesktop.systemd1.Unit";
pub const SERVICE: &str = "org.freedesktop.systemd1.Service";
/// How many questions are on their way at once. More gain nothing: systemd answers one after the other, and each that waits
/// is shown every answer.
const AT_ONCE: usize = 16;

/// A property: its interface and its name.
pub type Property = (&'static str, &'static str);

/// Some properties of some units, a bag a unit. One that isn't loaded is loaded by that. Each is answered by itself, and a
/// unit may change in between.
pub fn some_of(
    connection: &zbus::Connection,
    units: &[UnitName],
    properties: &[Property],
) -> Vec<Result<Bag>> {
    let mut bags = Vec::new();
    for part in units.chunks(AT_ONCE.div_ceil(properties.len())) {
        let asked = part.iter().flat_map(|unit| {
            let object = object_path(unit);
            properties
                .iter()
                .map(move |property| ask(connection, object.clone(), *property))
        });
        let mut answers = zbus::block_on(together(asked)).into_iter();
        for unit in part {
            let ours = answers.by_ref().take(properties.len());
            let bag: Result<HashMap<_, _>> = ours.collect();
            let bag = bag.with_context(|| format!("asking systemd about {unit}"));
            bags.push(bag.map(Bag));
        }
    }
    bags
}

async fn ask(
    connection: &zbus::Connection,
    object: String,
    property: Property,
) -> Result<(String, OwnedVariant)> {
    let asked = connection.call_method(
        Some("org.freedesktop.systemd1"),
        object,
        Some("org.freedesktop.DBus.Properties"),
        "Get",
        &property,
    );
    let value: OwnedVariant = asked.await?.body().deserialize()?;
    Ok((property.1.to_owned(), value))
}

/// A question on its way, and its answer once it is there.
type Asked<F> = (Pin<Box<F>>, Option<<F as Future>::Output>);

/// The answers to questions that are all asked before the first answer is waited for.
async fn together<F: Future>(questions: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let questions = questions.into_iter();
    let mut asked: Vec<Asked<F>> = questions
        .map(|question| (Box::pin(question), None))
        .collect();
    std::future::poll_fn(|context| {
        for (question, answer) in &mut asked {
            if answer.is_none()
                && let Poll::Ready(said) = question.as_mut().poll(context)
            {
                *answer = Some(said);
            }
        }
        match asked.iter().all(|(_, answer)| answer.is_some()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    asked.into_iter().filter_map(|(_, answer)| answer).collect()
}

/// The object that a unit is, by its name: every byte but letters, and digits that aren't first, in hex
/// (sd_bus_path_encode(3)).
fn object_path(unit: &UnitName) -> String {
    let mut path = String::from("/org/freedesktop/systemd1/unit/");
    for (n, byte) in unit.as_str().bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (n > 0 && byte.is_ascii_digit()) {
            path.push(char::from(byte));
        } else {
            path += &format!("_{byte:02x}");
        }
    }
    path
}

/// The properties of a unit.
pub struct Bag(HashMap<String, OwnedVariant>);

impl Bag {
    /// A property of a type.
    ///
    /// # Errors
    /// It wasn't asked for, or is of another type.
    pub fn take<T>(&mut self, name: &str) -> Result<T>
    where
        T: TryFrom<OwnedVariant>,
        T::Error: std::error::Error + Send + Sync + 'static,
    {
        let value = self
            .0
            .remove(name)
            .with_context(|| format!("systemd names no property {name}"))?;
        T::try_from(value).with_context(|| format!("systemd's property {name} has another type"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_found_by_its_name() {
        let path = |name: &str| object_path(&name.parse().unwrap());
        let folder = "/org/freedesktop/systemd1/unit/";
        assert_eq!(
            path("tmkms-01.v3.service"),
            format!("{folder}tmkms_2d01_2ev3_2eservice")
        );
        assert_eq!(
            path("1_a@b.service"),
            format!("{folder}_31_5fa_40b_2eservice")
        );
    }
}

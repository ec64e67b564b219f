//! Shops: customers who look around and buy, what they paid, and what is left of it.
//!
//! A purchase is three events: the customer's activity, the sale, and the stock that fell by it. What has run low is ordered, and comes
//! back some minutes later. Only a purchase has an amount; only what is about a product names one.

use super::json::{Object, uuid};
use super::trouble::{Damage, MINUTE, behind, damage, spoil};
use super::{Event, Form, GenerateOptions, Topic, World};
use std::collections::VecDeque;

const ACTIVITY: &str = "user_activity";
const SALES: &str = "sales";
const INVENTORY: &str = "inventory";

pub(super) const TOPICS: [Topic; 3] = [topic(ACTIVITY), topic(SALES), topic(INVENTORY)];

const fn topic(name: &'static str) -> Topic {
    Topic {
        name,
        partitions: 3,
        form: Form::Json,
    }
}

/// Something happens after so many readings of the emergency job: ten times a second. It is an event or, a purchase, three.
pub(super) const STEPS: i64 = 10;
const PRODUCTS: usize = 30;
/// A delivery takes so long.
const DELIVERY: std::ops::Range<i64> = 2 * MINUTE..10 * MINUTE;

const CATEGORIES: [&str; 5] = ["electronics", "clothing", "books", "toys", "groceries"];
const PAYMENTS: [&str; 4] = ["credit_card", "debit_card", "cash", "mobile"];
const AGENTS: [&str; 3] = ["Mozilla/5.0 (X11)", "Safari/17.0", "RetailApp/4.2"];

pub(super) struct Shops {
    options: GenerateOptions,
    customers: Vec<Customer>,
    products: Vec<Product>,
    now_ms: i64,
    /// Events of what has happened that are still to be sent.
    ready: VecDeque<Event>,
}

struct Customer {
    name: String,
    ip: String,
    agent: &'static str,
    /// While logged in.
    session: Option<Vec<u8>>,
}

struct Product {
    name: String,
    category: &'static str,
    warehouse: &'static str,
    cents: u64,
    stock: u64,
    full: u64,
    /// When what was ordered arrives.
    delivery_ms: Option<i64>,
}

impl Product {
    fn reorder_level(&self) -> u64 {
        self.full / 5
    }

    fn status(&self) -> &'static str {
        match self.stock {
            0 => "out_of_stock",
            low if low <= self.reorder_level() => "low_stock",
            _ => "in_stock",
        }
    }
}

impl Shops {
    pub fn new(options: &GenerateOptions, random: &mut fastrand::Rng) -> Self {
        let customer = |number| Customer {
            name: format!("user_{number}"),
            ip: format!("10.{}.{}.7", number / 256 % 256, number % 256),
            agent: AGENTS[(number % 3) as usize],
            session: None,
        };
        let mut product = |number: usize| {
            let full = random.u64(40..200);
            Product {
                name: format!("product_{number}"),
                category: CATEGORIES[number % CATEGORIES.len()],
                warehouse: ["north", "south"][number % 2],
                cents: random.u64(99..50_000),
                stock: full,
                full,
                delivery_ms: None,
            }
        };
        Shops {
            customers: (1..=options.keys.max(1)).map(customer).collect(),
            products: (1..=PRODUCTS).map(&mut product).collect(),
            now_ms: options.start_ms,
            options: options.clone(),
            ready: VecDeque::new(),
        }
    }

    /// Something happens; its events are ready then.
    fn live(&mut self, random: &mut fastrand::Rng) {
        self.now_ms += self.options.step_ms * STEPS;
        let now_ms = self.now_ms;
        let arrived = |product: &Product| product.delivery_ms.is_some_and(|at| at <= now_ms);
        if let Some(index) = self.products.iter().position(arrived) {
            self.products[index].stock = self.products[index].full;
            self.products[index].delivery_ms = None;
            return self.stock(index, random);
        }
        let who = random.usize(0..self.customers.len());
        if self.customers[who].session.is_none() {
            self.customers[who].session = Some(uuid(random.u128(..)));
            return self.activity(who, "login", None, None, random);
        }
        let index = random.usize(0..PRODUCTS);
        match random.u32(0..20) {
            0 => {
                self.activity(who, "logout", None, None, random);
                self.customers[who].session = None;
            }
            1..=4 => self.activity(who, "search", None, None, random),
            5..=9 if self.products[index].stock > 0 => self.purchase(who, index, random),
            _ => self.activity(who, "page_view", Some(index), None, random),
        }
    }

    fn purchase(&mut self, who: usize, index: usize, random: &mut fastrand::Rng) {
        let product = &mut self.products[index];
        let quantity = random.u64(1..=5).min(product.stock);
        let total = product.cents * quantity;
        product.stock -= quantity;
        if product.stock <= product.reorder_level() && product.delivery_ms.is_none() {
            product.delivery_ms = Some(self.now_ms + random.i64(DELIVERY));
        }
        self.activity(who, "purchase", Some(index), Some(total), random);

        let id = uuid(random.u128(..));
        let store = ["store_1", "store_2", "store_3", "store_4"][random.usize(0..4)];
        let payment = PAYMENTS[random.usize(0..PAYMENTS.len())];
        let (customer, product) = (&self.customers[who].name, &self.products[index]);
        let mut sale = Object::new();
        sale.text("transaction_id", &id);
        sale.text("user_id", customer.as_bytes());
        sale.text("product_id", product.name.as_bytes());
        let happened = self.happens(random);
        match happened.damage {
            Some(Damage::WrongType) => sale.text("quantity", b"a few"),
            _ => sale.whole("quantity", quantity),
        }
        sale.decimal("unit_price", product.cents, 2);
        sale.decimal("total_amount", total, 2);
        sale.text("payment_method", payment.as_bytes());
        happened.time(&mut sale, "timestamp");
        sale.text("store_id", store.as_bytes());
        sale.text("category", product.category.as_bytes());
        self.ready
            .push_back(happened.event(SALES, id, sale, random));
        self.stock(index, random);
    }

    fn activity(
        &mut self,
        who: usize,
        what: &str,
        product: Option<usize>,
        cents: Option<u64>,
        random: &mut fastrand::Rng,
    ) {
        let customer = &self.customers[who];
        let happened = self.happens(random);
        let mut activity = Object::new();
        activity.text("user_id", customer.name.as_bytes());
        activity.text("activity_type", what.as_bytes());
        happened.time(&mut activity, "timestamp");
        activity.text("session_id", customer.session.as_deref().unwrap_or(b""));
        activity.text("ip_address", customer.ip.as_bytes());
        activity.text("user_agent", customer.agent.as_bytes());
        if let Some(index) = product {
            activity.text("product_id", self.products[index].name.as_bytes());
        }
        match (happened.damage, cents) {
            (Some(Damage::WrongType), _) => activity.text("amount", b"plenty"),
            (_, Some(cents)) => activity.decimal("amount", cents, 2),
            (_, None) => {}
        }
        let key = customer.name.clone().into_bytes();
        self.ready
            .push_back(happened.event(ACTIVITY, key, activity, random));
    }

    fn stock(&mut self, index: usize, random: &mut fastrand::Rng) {
        let product = &self.products[index];
        let happened = self.happens(random);
        let mut stock = Object::new();
        stock.text("product_id", product.name.as_bytes());
        match happened.damage {
            Some(Damage::WrongType) => stock.text("current_stock", b"some"),
            _ => stock.whole("current_stock", product.stock),
        }
        stock.whole("reorder_level", product.reorder_level());
        happened.time(&mut stock, "last_updated");
        stock.text("warehouse_id", product.warehouse.as_bytes());
        stock.text("category", product.category.as_bytes());
        stock.text("status", product.status().as_bytes());
        let key = product.name.clone().into_bytes();
        self.ready
            .push_back(happened.event(INVENTORY, key, stock, random));
    }

    fn happens(&self, random: &mut fastrand::Rng) -> Happened {
        Happened {
            micros: (self.now_ms - behind(random, self.options.late).0) * 1000
                + random.i64(0..1000),
            damage: damage(random, self.options.malformed),
        }
    }
}

/// When something happened, and what is wrong with the news of it.
struct Happened {
    micros: i64,
    damage: Option<Damage>,
}

impl Happened {
    fn time(&self, object: &mut Object, name: &str) {
        if self.damage != Some(Damage::Missing) {
            object.time(name, self.micros);
        }
    }

    fn event(
        &self,
        topic: &'static str,
        key: Vec<u8>,
        object: Object,
        random: &mut fastrand::Rng,
    ) -> Event {
        Event {
            topic,
            key,
            value: spoil(object.finish(), self.damage, random),
            event_ms: self.micros.div_euclid(1000),
        }
    }
}

impl World for Shops {
    fn next(&mut self, random: &mut fastrand::Rng) -> Event {
        loop {
            match self.ready.pop_front() {
                Some(event) => return event,
                None => self.live(random),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::System;
    use super::super::tests::events;
    use super::*;
    use serde_json::Value;
    use std::collections::HashMap;

    #[test]
    fn what_is_sold_is_gone_and_comes_back() {
        let mut stock: HashMap<String, u64> = HashMap::new();
        let (mut sold, mut came_back, mut low, mut out) = (0, 0, 0, 0);
        let mut sale: Option<(String, u64)> = None;
        for event in events(System::Retail, 100_000, |_| {}) {
            let value: Value = serde_json::from_slice(&event.value).unwrap();
            let product = value["product_id"].as_str().map(str::to_owned);
            match event.topic {
                SALES => {
                    let quantity = value["quantity"].as_u64().unwrap();
                    let price = value["unit_price"].as_f64().unwrap();
                    let total = value["total_amount"].as_f64().unwrap();
                    assert!((price * quantity as f64 - total).abs() < 0.001);
                    sold += 1;
                    sale = Some((product.unwrap(), quantity));
                }
                INVENTORY => {
                    let product = product.unwrap();
                    assert_eq!(product.as_bytes(), event.key);
                    let left = value["current_stock"].as_u64().unwrap();
                    let before = stock.insert(product.clone(), left);
                    match (sale.take(), before) {
                        (Some((what, quantity)), Some(before)) => {
                            assert_eq!((what, before - quantity), (product, left));
                        }
                        (None, Some(before)) => {
                            assert!(left > before);
                            came_back += 1;
                        }
                        (_, None) => {}
                    }
                    low += i32::from(value["status"] == "low_stock");
                    out += i32::from(value["status"] == "out_of_stock");
                }
                _ => {}
            }
        }
        assert!(sold > 10_000 && came_back > 10 && low > 100 && out > 0);
    }

    #[test]
    fn product_and_amount_are_there_where_they_belong() {
        let mut kinds: HashMap<String, usize> = HashMap::new();
        for event in events(System::Retail, 20_000, |_| {}) {
            if event.topic == ACTIVITY {
                let value: Value = serde_json::from_slice(&event.value).unwrap();
                let kind = value["activity_type"].as_str().unwrap().to_owned();
                let about = ["page_view", "purchase"].contains(&kind.as_str());
                assert_eq!(value.get("product_id").is_some(), about);
                assert_eq!(value.get("amount").is_some(), kind == "purchase");
                *kinds.entry(kind).or_default() += 1;
            }
        }
        assert_eq!(kinds.len(), 5, "{kinds:?}");
        assert!(kinds.values().all(|count| *count > 100), "{kinds:?}");
    }

    #[test]
    fn damage_comes_as_often_as_it_was_asked_for() {
        let made = events(System::Retail, 50_000, |options| options.malformed = 0.1);
        let broken = made
            .iter()
            .filter(|event| serde_json::from_slice::<Value>(&event.value).is_err());
        assert!((broken.count() as f64 / 50_000.0 - 0.05).abs() < 0.01);
    }
}

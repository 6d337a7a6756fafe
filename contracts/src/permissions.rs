//! Rights and the roles that have them: the one table from which guards and the permission matrix are made.

use kernel::manifest::Permission;

/// Orders food.
pub const CUSTOMER: &str = "CUSTOMER";
/// Runs restaurants of an organisation.
pub const RESTAURANT_OWNER: &str = "RESTAURANT_OWNER";
/// Brings orders to people.
pub const DELIVERY_PARTNER: &str = "DELIVERY_PARTNER";
/// Runs the platform.
pub const ADMIN: &str = "ADMIN";
/// Helps customers and restaurants.
pub const SUPPORT: &str = "SUPPORT";

/// Who has no other role touches rows of their own organisations only.
pub const FOR_ORGS: &[&str] = &[RESTAURANT_OWNER];

/// The five roles.
pub const ROLES: &[&str] = &[CUSTOMER, RESTAURANT_OWNER, DELIVERY_PARTNER, ADMIN, SUPPORT];

macro_rules! permissions {
    ($($(#[$meta:meta])* $name:ident = $text:literal to [$($role:ident),+];)+) => {
        $($(#[$meta])* pub const $name: Permission = Permission { name: $text, roles: &[$($role),+], for_orgs: FOR_ORGS };)+
        /// Every permission there is.
        pub const ALL: &[Permission] = &[$($name),+];
    };
}

permissions! {
    /// Change restaurants and menus of one's organisations.
    MENU_EDIT = "restaurants.edit" to [RESTAURANT_OWNER, ADMIN];
    /// Fill a cart and place orders.
    ORDER_PLACE = "orders.place" to [CUSTOMER, SUPPORT, ADMIN];
    /// Move an order on by hand.
    ORDER_STATUS = "orders.status" to [RESTAURANT_OWNER, DELIVERY_PARTNER, SUPPORT, ADMIN];
    /// Cancel an order.
    ORDER_CANCEL = "orders.cancel" to [CUSTOMER, RESTAURANT_OWNER, SUPPORT, ADMIN];
    /// Pay for one's order, or try again with another card.
    PAYMENT_MAKE = "payments.make" to [CUSTOMER, SUPPORT, ADMIN];
    /// Give money back.
    PAYMENT_REFUND = "payments.refund" to [SUPPORT, ADMIN];
    /// See the books.
    LEDGER_READ = "payments.ledger" to [SUPPORT, ADMIN];
    /// Work on tickets and stock of one's kitchens.
    KITCHEN_WORK = "kitchen.work" to [RESTAURANT_OWNER, ADMIN];
    /// Take shifts and deliver.
    DELIVERY_WORK = "delivery.work" to [DELIVERY_PARTNER, ADMIN];
    /// See all deliveries.
    DELIVERY_WATCH = "delivery.watch" to [SUPPORT, ADMIN];
    /// See every message that was sent.
    MESSAGE_WATCH = "notifications.watch" to [SUPPORT, ADMIN];
    /// End other people's sessions.
    SESSION_END = "auth.sessions.end" to [SUPPORT, ADMIN];
}

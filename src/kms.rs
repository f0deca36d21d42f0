//! What differs by kind of KMS. So far: tmkms.

pub mod tmkms;

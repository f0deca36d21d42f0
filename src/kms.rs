//! What differs by kind of KMS: tmkms, which signs blocks, and Oasis key managers, which keep a ParaTime's secrets.

pub mod oasis;
pub mod tmkms;

//! Links between members that can be cut: each member lives in a network namespace of its own, and all are on one
//! bridge, with the clients. All of it is inside this run's own network (see `sandbox`) and goes with it.
//!
//! A cut is a route to nowhere: what one member sends to the other is lost without a word, as on a broken link.
//! Clients reach every member all the time, which is the harder case.

use crate::sandbox;

/// The members' namespaces.
pub struct Network {
    members: usize,
}

impl Network {
    /// A bridge, and a namespace on it for each member.
    pub fn new(members: usize) -> Result<Network, String> {
        let network = Network { members };
        network.build().map_err(|error| format!("cannot build a network of namespaces: {error}"))?;
        Ok(network)
    }

    fn build(&self) -> Result<(), String> {
        ip("link add bridge type bridge")?;
        ip(&format!("addr add {SUBNET}.254/24 dev bridge"))?;
        ip("link set bridge up")?;
        for at in 0..self.members {
            let (space, address) = (Self::space(at), Self::address(at));
            ip(&format!("netns add {space}"))?;
            ip(&format!("link add {space}v type veth peer name eth0 netns {space}"))?;
            ip(&format!("link set {space}v master bridge up"))?;
            ip(&format!("-n {space} addr add {address}/24 dev eth0"))?;
            ip(&format!("-n {space} link set eth0 up"))?;
            ip(&format!("-n {space} link set lo up"))?;
        }
        Ok(())
    }

    fn space(at: usize) -> String {
        format!("m{}", at + 1)
    }

    /// The address of a member.
    pub fn address(at: usize) -> String {
        format!("{SUBNET}.{}", at + 1)
    }

    /// What a command line begins with to run where a member lives.
    pub fn inside(at: usize) -> Vec<String> {
        ["ip", "netns", "exec", &Self::space(at)].map(str::to_owned).to_vec()
    }

    /// What `from` sends to `to` is lost from now on.
    pub fn cut(from: usize, to: usize) -> Result<(), String> {
        ip(&format!("-n {} route add blackhole {}/32", Self::space(from), Self::address(to)))
    }

    /// Every link works again.
    pub fn heal(&self) {
        for from in 0..self.members {
            for to in 0..self.members {
                // Most links were never cut.
                let _ = ip(&format!("-n {} route del blackhole {}/32", Self::space(from), Self::address(to)));
            }
        }
    }
}

/// What all addresses begin with.
const SUBNET: &str = "10.213.77";

fn ip(arguments: &str) -> Result<(), String> {
    sandbox::run("ip", &arguments.split(' ').collect::<Vec<_>>())
}

//! Links between members that can be cut: each member lives in a network namespace of its own, and all are on one
//! bridge, with the clients. Needs root and the program `ip`.
//!
//! A cut is a route to nowhere: what one member sends to the other is lost without a word, as on a broken link.
//! Clients reach every member all the time, which is the harder case.

use std::process::Command;

/// The namespaces of one run; they go with it.
pub struct Network {
    /// What all names of this run begin with.
    prefix: String,
    /// The third number of all addresses.
    subnet: u32,
    members: usize,
}

impl Network {
    /// A bridge, and a namespace on it for each member.
    pub fn new(members: usize) -> Result<Network, String> {
        let id = std::process::id();
        let network = Network { prefix: format!("qj{}", id % 100_000), subnet: id % 200 + 20, members };
        network.build().map_err(|error| {
            format!("cannot build a network of namespaces ({error}): partitions need root and the program ip")
        })?;
        Ok(network)
    }

    fn build(&self) -> Result<(), String> {
        let Network { prefix, subnet, .. } = self;
        ip(&format!("link add {prefix}b type bridge"))?;
        ip(&format!("addr add 10.213.{subnet}.254/24 dev {prefix}b"))?;
        ip(&format!("link set {prefix}b up"))?;
        for at in 0..self.members {
            let (space, address) = (self.space(at), self.address(at));
            ip(&format!("netns add {space}"))?;
            ip(&format!("link add {space}v type veth peer name eth0 netns {space}"))?;
            ip(&format!("link set {space}v master {prefix}b up"))?;
            ip(&format!("-n {space} addr add {address}/24 dev eth0"))?;
            ip(&format!("-n {space} link set eth0 up"))?;
            ip(&format!("-n {space} link set lo up"))?;
        }
        Ok(())
    }

    fn space(&self, at: usize) -> String {
        format!("{}m{}", self.prefix, at + 1)
    }

    /// The address of a member.
    pub fn address(&self, at: usize) -> String {
        format!("10.213.{}.{}", self.subnet, at + 1)
    }

    /// What a command line begins with to run where a member lives.
    pub fn inside(&self, at: usize) -> Vec<String> {
        ["ip", "netns", "exec", &self.space(at)].map(str::to_owned).to_vec()
    }

    /// What `from` sends to `to` is lost from now on.
    pub fn cut(&self, from: usize, to: usize) -> Result<(), String> {
        ip(&format!("-n {} route add blackhole {}/32", self.space(from), self.address(to)))
    }

    /// Every link works again.
    pub fn heal(&self) {
        for from in 0..self.members {
            for to in 0..self.members {
                // Most links were never cut.
                let _ = ip(&format!("-n {} route del blackhole {}/32", self.space(from), self.address(to)));
            }
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for at in 0..self.members {
            // What was never made cannot be removed.
            let _ = ip(&format!("netns del {}", self.space(at)));
        }
        let _ = ip(&format!("link del {}b", self.prefix));
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

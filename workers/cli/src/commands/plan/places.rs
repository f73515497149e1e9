//! What the same workers cost a month in other places, and where these begin to cost less.

use super::usage::{MOST_WORKERS, Usage};

/// Hours and seconds of a month.
const HOURS: f64 = 730.0;
const MONTH_S: f64 = HOURS * 3_600.0;
/// GB of a function that waits for its tool as a worker's slot does.
const FUNCTION_GB: f64 = 0.25;

/// A place where calls can be executed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Place {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    /// USD in a month.
    pub(super) usd: f64,
    /// What it is made of.
    pub(super) of: String,
}

/// Fargate on ARM, on x86 and on Spot, EC2, and a Lambda function for each call.
pub(super) fn places(usage: &Usage) -> Vec<Place> {
    let prices = &usage.prices;
    let (workers, instances) = (usage.workers, instances(usage, usage.workers));
    let tasks = format!("{workers} tasks of {} vCPU and {} GB", usage.vcpu, usage.memory_gb);
    let x86 = usage.vcpu.mul_add(prices.fargate_x86_vcpu_hour, usage.memory_gb * prices.fargate_x86_gb_hour);
    let arm = fargate(usage, workers);
    let place = |id, name, usd, of: String| Place { id, name, usd, of };
    vec![
        place("fargate_arm", "Fargate, ARM", arm, tasks.clone()),
        place("fargate_x86", "Fargate, x86", f64::from(workers) * x86 * HOURS, tasks.clone()),
        place(
            "fargate_spot",
            "Fargate Spot, ARM",
            arm * prices.fargate_spot_part,
            format!("{tasks}, ended by AWS at any time"),
        ),
        place(
            "ec2",
            "EC2",
            ec2(usage, workers),
            format!(
                "{instances:.0} instances of {} vCPU and {} GB",
                prices.ec2_instance_vcpu, prices.ec2_instance_gb
            ),
        ),
        place(
            "lambda",
            "Lambda for each call",
            usage.rate * MONTH_S * of_call(usage),
            format!("{FUNCTION_GB} GB for as long as a call takes"),
        ),
    ]
}

/// USD a month of so many workers on Fargate, ARM.
pub(super) fn fargate(usage: &Usage, workers: u32) -> f64 {
    let hour = usage
        .vcpu
        .mul_add(usage.prices.fargate_arm_vcpu_hour, usage.memory_gb * usage.prices.fargate_arm_gb_hour);
    f64::from(workers) * hour * HOURS
}

fn instances(usage: &Usage, workers: u32) -> f64 {
    let prices = &usage.prices;
    let of_worker = (usage.vcpu / prices.ec2_instance_vcpu).max(usage.memory_gb / prices.ec2_instance_gb);
    // A worker stays on one instance: as many as fit onto it, or several instances' worth for a large one.
    let fitting = (1.0 / of_worker).floor();
    let workers = f64::from(workers);
    if fitting >= 1.0 { (workers / fitting).ceil() } else { (workers * of_worker.ceil()).ceil() }
}

fn ec2(usage: &Usage, workers: u32) -> f64 {
    instances(usage, workers) * usage.prices.ec2_instance_hour.mul_add(HOURS, usage.prices.ec2_disk_month)
}

/// USD of a call in a function of its own.
fn of_call(usage: &Usage) -> f64 {
    let prices = &usage.prices;
    (usage.mean_s * FUNCTION_GB).mul_add(prices.lambda_gb_second, prices.lambda_million_requests / 1e6)
}

/// The fewest workers for which EC2 costs less than Fargate, also for each larger number that is near; none if it never does.
pub(super) fn ec2_pays_from(usage: &Usage) -> Option<u32> {
    // Instances are whole: a number that does not fill the last one may cost more again.
    let pays = |workers: u32| ec2(usage, workers) < fargate(usage, workers);
    (1..=MOST_WORKERS.min(500)).find(|workers| (0..16).all(|more| pays(workers + more)))
}

/// The rate of calls below which a Lambda function for each call costs less than these workers on Fargate, where a call takes so long.
pub(super) fn lambda_pays_below(usage: &Usage) -> f64 {
    fargate(usage, usage.workers) / MONTH_S / of_call(usage)
}

#[cfg(test)]
mod tests {
    use super::super::prices::Prices;
    use super::*;

    fn usage(workers: u32) -> Usage {
        Usage {
            rate: 10.0,
            mean_s: 1.0,
            workers,
            vcpu: 1.0,
            memory_gb: 2.0,
            queues: 1,
            request_bytes: 1_000.0,
            result_bytes: 200.0,
            polls: 1.0,
            sessions: false,
            claimless: 0.0,
            prices: Prices::default(),
        }
    }

    fn usd(usage: &Usage, id: &str) -> f64 {
        places(usage).into_iter().find(|place| place.id == id).unwrap().usd
    }

    /// The figures of docs/guides/deploy-ec2.md and of the price lists.
    #[test]
    fn places_cost_what_the_price_lists_say() {
        let two = usage(2);
        assert!((usd(&two, "fargate_arm") - 57.67).abs() < 0.02, "{:?}", places(&two));
        assert!((usd(&two, "fargate_x86") - 72.08).abs() < 0.02, "{:?}", places(&two));
        assert!((usd(&two, "fargate_spot") - 17.30).abs() < 0.02, "{:?}", places(&two));
        assert!((usd(&two, "ec2") - 53.57).abs() < 0.02, "{:?}", places(&two));
        assert!((usd(&usage(3), "ec2") - usd(&usage(4), "ec2")).abs() < 1e-9, "instances are whole");
    }

    #[test]
    fn lambda_pays_below_the_rate_at_which_it_costs_as_much() {
        let at = Usage { rate: lambda_pays_below(&usage(2)), ..usage(2) };
        assert!((usd(&at, "lambda") - usd(&at, "fargate_arm")).abs() < 0.01, "{:?}", places(&at));
    }

    #[test]
    fn ec2_pays_where_instances_are_filled() {
        let from = ec2_pays_from(&usage(1)).unwrap();
        assert!((4..=40).contains(&from) && ec2(&usage(1), from) < fargate(&usage(1), from), "{from}");
        let dear = Prices { ec2_instance_hour: 1.0, ..Prices::default() };
        assert_eq!(ec2_pays_from(&Usage { prices: dear, ..usage(1) }), None);
        let large = Usage { vcpu: 4.0, memory_gb: 8.0, ..usage(3) };
        assert!((instances(&large, 3) - 6.0).abs() < 1e-9, "a worker of two instances' size");
    }
}

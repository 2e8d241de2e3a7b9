use super::*;

fn view(planned: bool, proved: bool, target: Target) -> View {
    View { planned, proved, dry_run: false, plan: Work::Absent, target }
}

fn fresh(planned: bool, proved: bool, server: Server) -> Step {
    next(&view(planned, proved, Target::Fresh(server)))
}

fn existing(planned: bool, proved: bool, work: Work) -> Step {
    next(&view(planned, proved, Target::Existing(work, Some(Timestamp::UNIX_EPOCH))))
}

fn planning(plan: Work) -> Step {
    next(&View { plan, ..view(false, false, Target::Fresh(Server::Absent)) })
}

fn error(transient: bool) -> PodError {
    PodError { reason: "OutsideWindow".to_owned(), message: "m".to_owned(), transient }
}

fn ended(plan: bool, restore: bool) -> Work {
    Work::Ended(Box::new(Outcome {
        plan: plan.then(RestorePlanStatus::default),
        restore: restore.then(RestoreOutcome::default),
        ..Outcome::default()
    }))
}

fn waits(reason: &str) -> Doing {
    Doing::waits(reason, "m")
}

/// A step by its name, and why it waits.
fn shown(step: &Step) -> String {
    let doing = |name: &str, doing: &Doing| match doing {
        Doing::Waits { reason, message: _ } => format!("{name}:{reason}"),
        Doing::Runs(_) => format!("{name}:runs"),
    };
    match step {
        Step::Plan(does) => doing("plan", does),
        Step::PlanAgain => "plan again".to_owned(),
        Step::Planned(_) => "planned".to_owned(),
        Step::Restore(does) => doing("restore", does),
        Step::Proved(_) => "proved".to_owned(),
        Step::Open(does) => doing("open", does),
        Step::Finish(Finished::Planned) => "finish:planned".to_owned(),
        Step::Finish(Finished::Restored(_)) => "finish:restored".to_owned(),
        Step::Finish(Finished::Opened(_)) => "finish:opened".to_owned(),
        Step::Fail(error) => format!("fail:{}", error.reason),
    }
}

#[test]
fn a_plan_is_made_once_and_what_cannot_be_planned_fails() {
    for (plan, step) in [
        (Work::Absent, "plan:Planning"),
        (Work::Taken, "plan:NameTaken"),
        (Work::waits("ImagePullBackOff", ""), "plan:ImagePullBackOff"),
        (Work::Runs(None), "plan:runs"),
        (ended(true, false), "planned"),
        // Its pod was deleted before anybody looked.
        (Work::Lost, "plan again"),
        (ended(false, false), "plan again"),
        (Work::Failed(error(false)), "fail:OutsideWindow"),
    ] {
        assert_eq!(shown(&planning(plan.clone())), step, "{plan:?}");
    }
    // Once it is known, the Job may go.
    assert_eq!(shown(&fresh(true, false, Server::Absent)), "restore:Restoring");
}

#[test]
fn a_dry_run_ends_with_the_plan() {
    let view = |planned| View { dry_run: true, ..view(planned, false, Target::Fresh(Server::Absent)) };
    assert_eq!(shown(&next(&view(false))), "plan:Planning");
    assert_eq!(shown(&next(&view(true))), "finish:planned");
}

#[test]
fn a_fresh_server_is_opened_only_once_it_is_proved_wherever_the_operator_was_lost() {
    let now = Timestamp::UNIX_EPOCH;
    let shut = |work: Work| Server::Shut(work);
    let opening = || Server::Opening("Opening".to_owned(), String::new());
    for (proved, server, step) in [
        (false, Server::Absent, "restore:Restoring"),
        (false, Server::Taken, "restore:NameTaken"),
        (false, shut(Work::waits("Unschedulable", "")), "restore:Unschedulable"),
        (false, shut(Work::Runs(None)), "restore:runs"),
        (false, shut(ended(true, true)), "proved"),
        (false, shut(Work::Failed(error(false))), "fail:OutsideWindow"),
        // Proved, but the operator was lost before it said so, or before it opened the server.
        (true, shut(ended(true, true)), "open:Opening"),
        // The engine's container was started again, or the pod or its node was lost, after the proof.
        (true, shut(Work::Runs(None)), "open:Opening"),
        (true, shut(Work::waits("Starting", "")), "open:Opening"),
        (true, shut(Work::Failed(error(false))), "open:Opening"),
        (true, opening(), "open:Opening"),
        (true, Server::Open(now), "finish:opened"),
        // Somebody deleted it meanwhile: nothing of it is left.
        (true, Server::Absent, "fail:ServerGone"),
        // Somebody edited the status: the server is open because it was proved.
        (false, opening(), "proved"),
        (false, Server::Open(now), "proved"),
    ] {
        assert_eq!(shown(&fresh(true, proved, server.clone())), step, "proved: {proved}, {server:?}");
    }
}

#[test]
fn a_server_that_exists_is_restored_by_a_job() {
    for (proved, work, step) in [
        (false, Work::Absent, "restore:Restoring"),
        (false, Work::Taken, "restore:NameTaken"),
        (false, Work::waits("Starting", ""), "restore:Starting"),
        (false, Work::Runs(None), "restore:runs"),
        (false, ended(true, true), "proved"),
        // It ends well only when it has proved what it restored.
        (false, Work::Lost, "proved"),
        (false, Work::Failed(error(false)), "fail:OutsideWindow"),
        (true, Work::Absent, "finish:restored"),
        (true, ended(true, true), "finish:restored"),
    ] {
        assert_eq!(shown(&existing(true, proved, work.clone())), step, "proved: {proved}, {work:?}");
    }
}

#[test]
fn what_a_step_waits_for_is_handed_on() {
    let step = fresh(true, true, Server::Opening("ServerFailed".to_owned(), "m".to_owned()));
    assert_eq!(step, Step::Open(waits("ServerFailed")));
}

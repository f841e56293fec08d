//! Virtual models and AI routes, as a revision fixes them.

use super::provider::ProviderPlan;
use crate::config::{
    Capability, Config, KeyUse, LossUse, ModelStrategy, OverBudget, RouteLlm, Target, TargetTable, When,
};
use crate::error::{nearest, Problem};
use crate::llm::price::Prices;
use crate::llm::request::Needs;
use crate::shared::stable_hash;
use std::collections::HashMap;
use std::time::Duration;

/// Everything about models that a revision fixes.
#[derive(Debug, Default)]
pub struct Plan {
    pub providers: Vec<ProviderPlan>,
    pub models: Vec<ModelPlan>,
    by_name: HashMap<String, u32>,
}

#[derive(Debug)]
pub struct ModelPlan {
    pub name: String,
    pub strategy: ModelStrategy,
    pub first_token_timeout: Option<Duration>,
    pub attempts: u8,
    pub targets: Vec<TargetPlan>,
}

#[derive(Debug)]
pub struct TargetPlan {
    /// Stable hash of provider and model: what is remembered of it is kept under this.
    pub key: u64,
    /// Number of the provider.
    pub provider: u32,
    /// The provider's name of it.
    pub model: String,
    pub weight: u32,
    pub priority: u8,
    pub when: When,
    can: Option<Vec<Capability>>,
    /// None: not known, and never taken for nothing.
    pub prices: Option<Prices>,
}

/// What an AI route serves.
#[derive(Debug)]
pub struct RoutePlan {
    /// Numbers of models, sorted; None: all.
    models: Option<Vec<u32>>,
    pub keys: KeyUse,
    pub loss: LossUse,
    pub max_body: usize,
    pub max_prompt: Option<u64>,
    pub max_output: Option<u64>,
    pub tools: bool,
    pub over_budget: OverBudget,
    pub cost_header: bool,
    /// How long answers are kept, and within how many bytes.
    pub cache: Option<(Duration, usize)>,
}

impl Plan {
    /// Compiles `[ai]`. `service` numbers the services.
    pub fn compile(config: &Config, service: impl Fn(&str) -> Option<u32>) -> Result<Plan, Vec<Problem>> {
        let (mut plan, mut problems) = (Plan::default(), Vec::new());
        let names: Vec<&str> = config.ai.providers.keys().map(String::as_str).collect();
        for (name, provider) in &config.ai.providers {
            match ProviderPlan::compile(name, provider, &service) {
                Ok(found) => plan.providers.push(found),
                Err(found) => problems.extend(found),
            }
        }
        for (name, model) in &config.ai.models {
            let mut targets = Vec::with_capacity(model.targets.len());
            if model.targets.is_empty() {
                let problem = Problem::new(format!("ai.models.{name}.targets"), "there is none");
                problems.push(problem.expected("at least one `\"provider/model\"`"));
            }
            for (index, target) in model.targets.iter().enumerate() {
                let at = format!("ai.models.{name}.targets[{index}]");
                let table = match target {
                    Target::Table(table) => table.clone(),
                    Target::Name(text) => match text.split_once('/') {
                        Some((provider, model)) => TargetTable {
                            provider: provider.into(),
                            model: model.into(),
                            weight: 1,
                            priority: 0,
                            when: When::default(),
                            can: None,
                        },
                        None => {
                            let problem = Problem::new(at, format!("{text:?} names no provider"));
                            problems.push(problem.expected("`\"provider/model\"`"));
                            continue;
                        }
                    },
                };
                if !config.ai.providers.contains_key(&table.provider) {
                    let problem = Problem::new(at, format!("there is no provider {:?}", table.provider));
                    problems.push(match nearest(&table.provider, names.iter().copied()) {
                        Some(near) => problem.nearest(near),
                        None => problem.expected(format!("one of {}", names.join(", "))),
                    });
                    continue;
                }
                let Some(number) = plan.providers.iter().position(|p| p.name == table.provider) else { continue };
                let full = format!("{}/{}", table.provider, table.model);
                let prices = config.ai.prices.get(&full).or_else(|| config.ai.prices.get(&table.model)).cloned();
                targets.push(TargetPlan {
                    key: stable_hash(&[b"target", full.as_bytes()]),
                    provider: number as u32,
                    prices,
                    model: table.model,
                    weight: table.weight,
                    priority: table.priority,
                    when: table.when,
                    can: table.can,
                });
            }
            plan.by_name.insert(name.clone(), plan.models.len() as u32);
            plan.models.push(ModelPlan {
                name: name.clone(),
                strategy: model.strategy,
                first_token_timeout: model.first_token_timeout.map(|t| t.0),
                attempts: model.attempts,
                targets,
            });
        }
        if problems.is_empty() {
            Ok(plan)
        } else {
            Err(problems)
        }
    }

    /// The route's part, at `path` of the configuration.
    pub fn route(&self, config: &RouteLlm, path: &str) -> Result<RoutePlan, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut numbers = Vec::new();
        for (index, name) in config.models.iter().enumerate() {
            match self.by_name.get(name) {
                Some(number) => numbers.push(*number),
                None => {
                    let problem =
                        Problem::new(format!("{path}.models[{index}]"), format!("there is no model {name:?}"));
                    problems.push(match self.nearest(name, |_| true).first() {
                        Some(near) => problem.nearest(*near),
                        None => problem.expected("a name under `ai.models`"),
                    });
                }
            }
        }
        if self.models.is_empty() {
            problems.push(Problem::new(path, "there is no model to serve").expected("at least one under `ai.models`"));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        numbers.sort_unstable();
        Ok(RoutePlan {
            models: (!numbers.is_empty()).then_some(numbers),
            keys: config.keys,
            loss: config.loss,
            max_body: usize::try_from(config.max_body.0).unwrap_or(usize::MAX),
            max_prompt: config.max_prompt_tokens,
            max_output: config.max_output_tokens,
            tools: config.tools,
            over_budget: config.over_budget,
            cost_header: config.cost_header,
            cache: config.cache.as_ref().map(|c| (c.ttl.0, usize::try_from(c.max_bytes.0).unwrap_or(usize::MAX))),
        })
    }

    /// Number of the model called `name`.
    pub fn model(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// Up to three names of models near `name`, of those that `may` be told.
    pub fn nearest<'p>(&'p self, name: &str, may: impl Fn(u32) -> bool + 'p) -> Vec<&'p str> {
        let mut left: Vec<&str> = self.names(may).collect();
        let mut found = Vec::new();
        while let Some(near) = nearest(name, left.iter().copied()).filter(|_| found.len() < 3) {
            left.retain(|other| *other != near);
            found.push(near);
        }
        found
    }

    /// Names of the models that `may` be told.
    pub fn names<'p>(&'p self, may: impl Fn(u32) -> bool + 'p) -> impl Iterator<Item = &'p str> + 'p {
        self.models.iter().enumerate().filter(move |(number, _)| may(*number as u32)).map(|(_, m)| m.name.as_str())
    }
}

impl RoutePlan {
    /// Whether the route serves the model with this number.
    pub fn serves(&self, model: u32) -> bool {
        self.models.as_ref().is_none_or(|models| models.binary_search(&model).is_ok())
    }
}

impl TargetPlan {
    /// Whether it can do what the call needs.
    pub fn can(&self, needs: &Needs) -> bool {
        let Some(can) = &self.can else { return true };
        let wanted = [
            (needs.vision, Capability::Vision),
            (needs.audio || needs.audio_output, Capability::Audio),
            (needs.video, Capability::Video),
            (needs.documents, Capability::Documents),
            (needs.tools, Capability::Tools),
            (needs.json_output, Capability::Json),
            (needs.reasoning, Capability::Reasoning),
        ];
        wanted.iter().all(|(wanted, capability)| !wanted || can.contains(capability))
    }
}

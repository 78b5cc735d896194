//! Access points. What they let in is nothing of the folder's.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use crate::openapi::Timing;
use crate::openapi::account::Account;
use crate::openapi::account::Asked;
use crate::openapi::answer::Outcome;
use crate::openapi::answer::Refusal;
use crate::openapi::answer::refusal;

#[derive(Debug)]
pub(super) struct AccessPoint {
    made: Instant,
    domain: String,
    name: String,
    access_group: String,
    vpc: String,
    vswitch: String,
    path: String,
    ram: bool,
    tags: BTreeMap<String, String>,
}

impl Account {
    pub(super) fn create_access_point(&mut self, asked: Asked<'_>) -> Outcome {
        self.file_system(asked)?;
        let path = asked.optional("RootDirectory").unwrap_or("/").to_owned();
        let folder = self.root.join(asked.required("FileSystemId")?).join(&path[1..]);
        if !folder.is_dir() {
            let owner = (number_of(asked, "OwnerUserId")?, number_of(asked, "OwnerGroupId")?);
            let mode = asked.optional("Permission").unwrap_or("0777");
            make_root(&folder, owner, u32::from_str_radix(mode, 8).unwrap_or(0o777));
        }
        let number = self.next_id();
        let id = format!("ap-{}", &number[2..]);
        let (file_system, region) = (asked.required("FileSystemId")?, asked.required("RegionId")?);
        let domain = format!("{id}.{file_system}.{region}.nas.aliyuncs.com");
        let access_point = AccessPoint {
            made: Instant::now(),
            domain: domain.clone(),
            name: asked.optional("AccessPointName").unwrap_or_default().to_owned(),
            access_group: asked.required("AccessGroup")?.to_owned(),
            vpc: asked.required("VpcId")?.to_owned(),
            vswitch: asked.required("VswId")?.to_owned(),
            path,
            ram: asked.optional("EnabledRam") == Some("true"),
            tags: asked.tags(),
        };
        let root = format!("/{file_system}{}", access_point.path.trim_end_matches('/'));
        self.names.tell(&domain, root);
        self.file_system(asked)?.access_points.insert(id.clone(), access_point);
        Ok(json!({ "AccessPoint": { "AccessPointId": id, "AccessPointDomain": domain } }))
    }

    pub(super) fn describe_access_point(&mut self, asked: Asked<'_>) -> Outcome {
        let timing = self.timing;
        let id = asked.required("AccessPointId")?;
        let file_system_id = asked.required("FileSystemId")?;
        let one = self.file_system(asked)?.access_points.get(id).ok_or_else(not_found)?;
        let mut described = one.described(id, file_system_id, timing);
        described["RegionId"] = "cn-test".into();
        let tags = one.tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value }));
        described["Tags"] = tags.collect();
        Ok(json!({ "AccessPoint": described }))
    }

    /// By a token instead of a page's number; ours is the number of those that came before.
    pub(super) fn describe_access_points(&mut self, asked: Asked<'_>) -> Outcome {
        let timing = self.timing;
        let file_system_id = asked.required("FileSystemId")?;
        let before = asked.optional("NextToken").and_then(|token| token.parse().ok()).unwrap_or(0);
        let most = asked.optional("MaxResults").and_then(|text| text.parse().ok()).unwrap_or(10);
        let all = &self.file_system(asked)?.access_points;
        let page: Vec<_> = all
            .iter()
            .skip(before)
            .take(most)
            .map(|(id, one)| one.described(id, file_system_id, timing))
            .collect();
        let told = before + page.len();
        let next = if told < all.len() { told.to_string() } else { String::new() };
        Ok(json!({ "AccessPoints": page, "NextToken": next, "TotalCount": all.len() }))
    }

    pub(super) fn delete_access_point(&mut self, asked: Asked<'_>) -> Outcome {
        let id = asked.required("AccessPointId")?;
        self.file_system(asked)?.access_points.remove(id).ok_or_else(not_found)?;
        Ok(json!({}))
    }
}

fn number_of(asked: Asked<'_>, name: &str) -> Result<u32, Refusal> {
    let wrong = |_| refusal(400, &format!("InvalidParameter.{name}"), "It is no number.");
    asked.required(name)?.parse().map_err(wrong)
}

/// Whoever is not root gives nothing away: then it stays his.
fn make_root(folder: &Path, (user, group): (u32, u32), mode: u32) {
    drop(std::fs::create_dir_all(folder));
    drop(std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode)));
    drop(std::os::unix::fs::chown(folder, Some(user), Some(group)));
}

impl AccessPoint {
    /// What both calls show. The list shows neither region nor tags.
    fn described(&self, id: &str, file_system_id: &str, timing: Timing) -> Value {
        let status = if self.made.elapsed() < timing.pending { "Pending" } else { "Active" };
        json!({
            "ARN": format!("acs:nas:cn-test:1:accesspoint/{id}"), "AccessGroup": self.access_group,
            "AccessPointId": id, "AccessPointName": self.name, "CreateTime": "1709619668276167",
            "DomainName": self.domain, "EnabledRam": self.ram, "FileSystemId": file_system_id,
            "ModifyTime": "1709619668276167", "RootPath": self.path, "RootPathStatus": "2",
            "Status": status, "VSwitchId": self.vswitch, "VpcId": self.vpc,
        })
    }
}

/// The code that the vendor's own driver handles.
fn not_found() -> Refusal {
    refusal(404, "NotFound", "The specified access point does not exist.")
}
